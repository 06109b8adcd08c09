// kvr::attend: stores the new rows' keys and values, then attends.
#include "operators.h"
#include "profile.h"

namespace kvr::model::kernels {

at::Tensor AttendOp(const at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin,
                    const at::Tensor& keys, const at::Tensor& values, std::int64_t heads,
                    std::int64_t past, bool causal) {
  const Kernels& kernels = Here();
  Attention at{};
  TORCH_CHECK(qkv.dim() == 2 && keys.dim() == 3 && values.sizes() == keys.sizes(),
              "attend: expected qkv [rows, width], keys and values [heads, capacity, head_dim]");
  at.qkv = const_cast<float*>(Floats(qkv, "qkv"));
  at.keys = const_cast<float*>(Floats(keys, "keys"));
  at.values = const_cast<float*>(Floats(values, "values"));
  at.heads = static_cast<int>(heads);
  at.kv_heads = static_cast<int>(keys.size(0));
  at.capacity = static_cast<int>(keys.size(1));
  at.head_dim = static_cast<int>(keys.size(2));
  at.past = static_cast<int>(past);
  at.count = static_cast<int>(qkv.size(0));
  at.causal = causal;
  TORCH_CHECK(at.kv_heads > 0 && heads % at.kv_heads == 0 && at.head_dim % kWidthMultiple == 0 &&
                  qkv.size(1) == (heads + 2 * keys.size(0)) * keys.size(2),
              "attend: found qkv of width ", qkv.size(1), " for ", heads, " heads over ",
              at.kv_heads, " of size ", at.head_dim);
  TORCH_CHECK(past >= 0 && past + at.count <= at.capacity, "attend: rows ", past, " to ",
              past + at.count, " for a buffer of ", at.capacity);
  if (cos.numel() > 0) {
    TORCH_CHECK(cos.size(0) >= at.count && cos.size(1) == at.head_dim && sin.sizes() == cos.sizes(),
                "attend: the rotation's tables have the wrong shape");
    at.cos = Floats(cos, "cos");
    at.sin = Floats(sin, "sin");
  }
  at::Tensor out = at::empty({qkv.size(0), heads * at.head_dim}, qkv.options());
  at.out = out.mutable_data_ptr<float>();

  Timed storing("attend: rotate, store");
  const int queries = at.count * (at.heads / at.kv_heads);
  const int tiles = (queries + kernels.query_tile - 1) / kernels.query_tile;
  const std::size_t scratch_bytes = kernels.attend_scratch_bytes(at);
  if (at.count == 1) kernels.store_row(at, 0);
  if (at.count > 1) {
    Parallel(at.count, kRows, [&](int row, int last) {
      for (; row < last; ++row) kernels.store_row(at, row);
    });
  }
  storing.Stop();
  // Each query row sees its past, itself and, where all see all, the rest.
  const double seen = at.causal ? at.past + (at.count + 1) / 2.0 : at.past + at.count;
  const Timed attend("attend", 4.0 * at.heads * at.head_dim * at.count * seen);
  Parallel(tiles * at.kv_heads, 1, [&](int item, int last) {
    std::byte* const scratch = Scratch<1>(scratch_bytes);
    // A head's last tiles see the most keys: first.
    for (; item < last; ++item) {
      kernels.attend_tile(at, item / tiles, tiles - 1 - item % tiles, scratch);
    }
  });
  return out;
}

}  // namespace kvr::model::kernels

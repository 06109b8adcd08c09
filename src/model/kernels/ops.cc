// The kernels as operators that a TorchScript archive calls: kvr::linear, kvr::norm, kvr::attend,
// kvr::embed. Here the work is cut into pieces for the pool's threads; which thread computes what
// never changes a bit.
#include <ATen/Parallel.h>
#include <torch/library.h>
#include <torch/script.h>

#include "instruction_sets.h"
#include "kvr/base/pool.h"

namespace kvr::model::kernels {

// Here, so that whoever asks for the kernels links the operators in.
const Kernels* Best() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni")) {
    return &kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &kAvx2;
#endif
  return nullptr;
}

namespace {

const Kernels& Here() {
  const Kernels* kernels = Best();
  TORCH_CHECK(kernels != nullptr, "this CPU has neither AVX-512 nor AVX2 with FMA");
  return *kernels;
}

template <typename Work>
void Parallel(int count, int least, const Work& work) {
  Pool::Global().For(at::get_num_threads(), count, least, work);
}

// The fewest rows at a time where a row is little work.
constexpr int kRows = 8;

// Scratch of the calling thread, cache-line aligned, kept and grown; one for each of its two uses.
template <int kUse>
std::byte* Scratch(std::size_t bytes) {
  constexpr std::size_t kLine = 64;
  thread_local std::vector<std::byte> memory;
  if (memory.size() < bytes + kLine) memory.resize(bytes + bytes / 2 + kLine);
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (kLine - address % kLine) % kLine;
}

const float* Floats(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous(), name,
              ": expected contiguous floats");
  return tensor.const_data_ptr<float>();
}

const float* FloatsOrNull(const std::optional<at::Tensor>& tensor, const char* name) {
  return tensor.has_value() ? Floats(*tensor, name) : nullptr;
}

// The weight's part of a layer.
Linear Describe(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets) {
  TORCH_CHECK(weight.is_contiguous() && weight.dim() >= 3 && weight.size(2) == kPanel,
              "weight: expected panels of ", kPanel, " outputs");
  Linear layer{};
  layer.weight = weight.const_data_ptr();
  layer.inputs = static_cast<int>(weight.size(1));
  layer.outputs = static_cast<int>(weight.size(0)) * kPanel;
  if (weight.scalar_type() == at::kFloat) {
    layer.type = WeightType::kFp32;
  } else if (weight.scalar_type() == at::kBFloat16) {
    layer.type = WeightType::kBf16;
  } else {
    TORCH_CHECK(weight.scalar_type() == at::kChar && weight.dim() == 4 && weight.size(3) == 4,
                "weight: expected float32, bfloat16, or int8 in fours");
    layer.type = WeightType::kInt8;
    layer.inputs *= 4;
    const std::int64_t count = weight.size(0) * (layer.inputs / kGroup) * kPanel;
    TORCH_CHECK(layer.inputs % kGroup == 0 && scales.numel() == count && offsets.numel() == count &&
                    offsets.scalar_type() == at::kInt && offsets.is_contiguous(),
                "weight: int8 without a scale for each group of ", kGroup);
    layer.scales = Floats(scales, "scales");
    layer.offsets = offsets.const_data_ptr<std::int32_t>();
  }
  return layer;
}

at::Tensor LinearOp(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                    const at::Tensor& offsets, const std::optional<at::Tensor>& bias,
                    const std::optional<at::Tensor>& residual, std::int64_t outputs,
                    std::int64_t activation) {
  const Kernels& kernels = Here();
  Linear layer = Describe(weight, scales, offsets);
  layer.activation = static_cast<Activation>(activation);
  const bool halved = layer.activation == Activation::kSiluMultiply;
  TORCH_CHECK(activation >= 0 && activation <= 3, "activation: found ", activation);
  TORCH_CHECK(x.dim() == 2 && x.size(1) == layer.inputs, "x: expected ", layer.inputs, " columns");
  TORCH_CHECK(outputs <= layer.outputs && outputs > layer.outputs - kPanel &&
                  (!halved || outputs == layer.outputs),
              "outputs: found ", outputs, " for ", layer.outputs, " in the panels");
  layer.outputs = static_cast<int>(outputs);
  layer.rows = static_cast<int>(x.size(0));
  layer.x = Floats(x, "x");
  layer.bias = FloatsOrNull(bias, "bias");
  TORCH_CHECK(!bias || bias->numel() == outputs, "bias: expected ", outputs);
  layer.residual = FloatsOrNull(residual, "residual");
  at::Tensor out = at::empty({x.size(0), halved ? outputs / 2 : outputs}, x.options());
  TORCH_CHECK(!residual || residual->sizes() == out.sizes(),
              "residual: expected the output's shape");
  layer.out = out.mutable_data_ptr<float>();
  if (layer.rows == 0) return out;

  const int panels = static_cast<int>(weight.size(0));
  const int tiles = kernels.row_tiles(layer);
  layer.packed_x = Scratch<0>(kernels.packed_bytes(layer));
  if (tiles == 1) kernels.pack_rows(layer, 0);
  const std::size_t scratch_bytes = kernels.panel_scratch_bytes(layer);
  if (tiles > 1) {
    Parallel(tiles, 1, [&](int tile, int last) {
      for (; tile < last; ++tile) kernels.pack_rows(layer, tile);
    });
  }
  Parallel(panels, 1, [&](int panel, int last) {
    std::byte* const scratch = Scratch<1>(scratch_bytes);
    for (; panel < last; ++panel) kernels.panel(layer, panel, scratch);
  });
  return out;
}

at::Tensor NormOp(const at::Tensor& x, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, double eps) {
  const Kernels& kernels = Here();
  const std::int64_t rows = x.size(0), width = x.size(1);
  const float* from = Floats(x, "x");
  const float* scale = Floats(weight, "weight");
  const float* shift = FloatsOrNull(bias, "bias");
  TORCH_CHECK(width % 16 == 0 && weight.numel() == width && (!bias || bias->numel() == width),
              "norm: found ", width, " columns, expected a multiple of 16 and as many weights");
  at::Tensor out = at::empty_like(x);
  auto* to = out.mutable_data_ptr<float>();
  Parallel(static_cast<int>(rows), kRows, [&](int row, int last) {
    for (; row < last; ++row) {
      kernels.norm(from + row * width, static_cast<int>(width), scale, shift,
                   static_cast<float>(eps), to + row * width);
    }
  });
  return out;
}

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
  TORCH_CHECK(heads % at.kv_heads == 0 && at.head_dim % 16 == 0 &&
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

  const int queries = at.count * (at.heads / at.kv_heads);
  const int tiles = (queries + kernels.query_tile - 1) / kernels.query_tile;
  const std::size_t scratch_bytes = kernels.attend_scratch_bytes(at);
  if (at.count == 1) kernels.store_row(at, 0);
  if (at.count > 1) {
    Parallel(at.count, kRows, [&](int row, int last) {
      for (; row < last; ++row) kernels.store_row(at, row);
    });
  }
  Parallel(tiles * at.kv_heads, 1, [&](int piece, int last) {
    std::byte* const scratch = Scratch<1>(scratch_bytes);
    // A head's last tiles see the most keys: first.
    for (; piece < last; ++piece) {
      kernels.attend_tile(at, piece / tiles, tiles - 1 - piece % tiles, scratch);
    }
  });
  return out;
}

at::Tensor EmbedOp(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets,
                   const at::Tensor& ids) {
  const Kernels& kernels = Here();
  const Linear layer = Describe(weight, scales, offsets);
  TORCH_CHECK(ids.scalar_type() == at::kLong && ids.is_contiguous(), "ids: expected int64");
  at::Tensor out = at::empty({ids.numel(), layer.inputs}, at::TensorOptions().dtype(at::kFloat));
  const auto* id = ids.const_data_ptr<std::int64_t>();
  auto* to = out.mutable_data_ptr<float>();
  const std::int64_t count = ids.numel();
  for (std::int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(id[i] >= 0 && id[i] < layer.outputs, "token ", id[i], " is not in the vocabulary");
  }
  Parallel(static_cast<int>(count), kRows, [&](int i, int last) {
    for (; i < last; ++i) kernels.unpack_row(layer, id[i], to + std::int64_t{i} * layer.inputs);
  });
  return out;
}

std::string NameOp() { return Best() == nullptr ? "" : Best()->name; }

}  // namespace

// The exporter declares the same operators (scripts/kvr_export/models.py).
TORCH_LIBRARY(kvr, library) {
  library.def("kernels() -> str", NameOp);
  library.def(
      "linear(Tensor x, Tensor weight, Tensor scales, Tensor offsets, Tensor? bias, "
      "Tensor? residual, int outputs, int activation) -> Tensor");
  library.def("norm(Tensor x, Tensor weight, Tensor? bias, float eps) -> Tensor");
  library.def(
      "attend(Tensor(a!) qkv, Tensor cos, Tensor sin, Tensor(b!) keys, Tensor(c!) values, "
      "int heads, int past, bool causal) -> Tensor");
  library.def("embed(Tensor weight, Tensor scales, Tensor offsets, Tensor ids) -> Tensor");
}

TORCH_LIBRARY_IMPL(kvr, CPU, library) {
  library.impl("linear", LinearOp);
  library.impl("norm", NormOp);
  library.impl("attend", AttendOp);
  library.impl("embed", EmbedOp);
}

}  // namespace kvr::model::kernels

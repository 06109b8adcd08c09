#include "kvr/model/kv_buffer.h"

#include <cstring>

#include "kv_tensors.h"
#include "torch_call.h"

namespace kvr::model {

KvBuffer::KvBuffer(int layers, int kv_heads, int capacity_tokens, int head_dim)
    : tensors_(TorchCall(
          "cannot allocate a key/value buffer for " + std::to_string(capacity_tokens) + " tokens",
          Error::Kind::kResource, [&] {
            const auto make = [&] {
              return at::zeros({layers, kv_heads, capacity_tokens, head_dim}, at::kFloat);
            };
            return std::make_unique<Tensors>(Tensors{make(), make()});
          })) {}

KvBuffer::~KvBuffer() = default;
KvBuffer::KvBuffer(KvBuffer&&) noexcept = default;
KvBuffer& KvBuffer::operator=(KvBuffer&&) noexcept = default;

int KvBuffer::capacity_tokens() const { return static_cast<int>(tensors_->keys.size(2)); }

std::size_t KvBuffer::bytes() const { return tensors_->keys.nbytes() + tensors_->values.nbytes(); }

std::byte* KvBuffer::keys() { return static_cast<std::byte*>(tensors_->keys.data_ptr()); }

std::byte* KvBuffer::values() { return static_cast<std::byte*>(tensors_->values.data_ptr()); }

void KvBuffer::Clear(int first, int count) {
  tensors_->keys.narrow(2, first, count).zero_();
  tensors_->values.narrow(2, first, count).zero_();
}

void KvBuffer::CopyFrom(const KvBuffer& other, int count) {
  tensors_->keys.narrow(2, 0, count).copy_(other.tensors_->keys.narrow(2, 0, count));
  tensors_->values.narrow(2, 0, count).copy_(other.tensors_->values.narrow(2, 0, count));
}

bool KvBuffer::EqualBits(const KvBuffer& other, int first, int count) const {
  const auto equal = [&](const at::Tensor& a, const at::Tensor& b) {
    const at::Tensor x = a.narrow(2, first, count).contiguous();
    const at::Tensor y = b.narrow(2, first, count).contiguous();
    return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
  };
  return equal(tensors_->keys, other.tensors_->keys) &&
         equal(tensors_->values, other.tensors_->values);
}

}  // namespace kvr::model

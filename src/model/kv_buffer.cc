#include "kvr/model/kv_buffer.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <array>
#include <cstring>

#include "huge_pages.h"
#include "kv_tensors.h"
#include "torch_call.h"

namespace kvr::model {

namespace {

at::TensorOptions Pinned() {
  return at::TensorOptions(at::kFloat).device(at::kCPU).pinned_memory(true);
}

void Carry(const at::Tensor& from, const at::Tensor& to, int first, int count) {
  if (from.is_same(to) || count == 0) return;
  TorchCall(
      "cannot copy keys and values between the CPU and the device", Error::Kind::kResource, [&] {
        const c10::Device device = from.is_cpu() ? to.device() : from.device();
        const c10::impl::VirtualGuardImpl guard(device.type());
        // What the device still computes on its own stream comes first.
        guard.getStream(device).synchronize();
        const c10::Stream stream = guard.getStreamFromGlobalPool(device);
        {
          const c10::StreamGuard on(stream);
          to.narrow(2, first, count).copy_(from.narrow(2, first, count), /*non_blocking=*/true);
        }
        stream.synchronize();
        return 0;
      });
}

}  // namespace

KvBuffer::KvBuffer(int layers, int kv_heads, int capacity_tokens, int head_dim,
                   const std::string& device)
    : tensors_(TorchCall(
          "cannot allocate a key/value buffer for " + std::to_string(capacity_tokens) + " tokens",
          Error::Kind::kResource, [&] {
            const auto make = [&] {
              const std::array<std::int64_t, 4> shape{layers, kv_heads, capacity_tokens, head_dim};
              if (device != "cpu") {
                return at::zeros(shape, at::TensorOptions(at::kFloat).device(device));
              }
              const auto floats = c10::multiply_integers(shape);
              const auto memory = HugePages(static_cast<std::size_t>(floats) * sizeof(float));
              return at::from_blob(
                  memory.get(), shape, [memory](void*) {}, at::kFloat);
            };
            Tensors tensors{make(), make(), {}, {}};
            const bool here = tensors.keys.is_cpu();
            tensors.host_keys = here ? tensors.keys : at::empty_like(tensors.keys, Pinned());
            tensors.host_values = here ? tensors.values : at::empty_like(tensors.values, Pinned());
            return std::make_unique<Tensors>(std::move(tensors));
          })) {}

KvBuffer::~KvBuffer() = default;
KvBuffer::KvBuffer(KvBuffer&&) noexcept = default;
KvBuffer& KvBuffer::operator=(KvBuffer&&) noexcept = default;

int KvBuffer::capacity_tokens() const { return static_cast<int>(tensors_->keys.size(2)); }

std::byte* KvBuffer::keys() { return static_cast<std::byte*>(tensors_->host_keys.data_ptr()); }

std::byte* KvBuffer::values() { return static_cast<std::byte*>(tensors_->host_values.data_ptr()); }

void KvBuffer::Upload(int first, int count) {
  Carry(tensors_->host_keys, tensors_->keys, first, count);
  Carry(tensors_->host_values, tensors_->values, first, count);
}

void KvBuffer::Download(int first, int count) {
  Carry(tensors_->keys, tensors_->host_keys, first, count);
  Carry(tensors_->values, tensors_->host_values, first, count);
}

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
    const at::Tensor x = a.narrow(2, first, count).contiguous().cpu();
    const at::Tensor y = b.narrow(2, first, count).contiguous().cpu();
    return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
  };
  return equal(tensors_->keys, other.tensors_->keys) &&
         equal(tensors_->values, other.tensors_->values);
}

}  // namespace kvr::model

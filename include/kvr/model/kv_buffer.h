// KvBuffer: the keys and values of one sequence, each [layers, kv_heads, capacity, head_dim],
// contiguous fp32, allocated once and written in place.
//
// On another device than the CPU there is a copy on the CPU side, in pinned memory, through which
// blocks are restored and stored: keys() and values() point there, Upload and Download carry over.
// On the CPU they are one memory, and the two do nothing.
//
// Thread safety: none. Errors: kResource where memory cannot be had or copied. Cost: each method
// that copies says so.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace kvr::model {

class KvBuffer {
 public:
  // Zeroed, so that what attention masks out is finite. `device` as libtorch names it. Throws
  // kResource.
  KvBuffer(int layers, int kv_heads, int capacity_tokens, int head_dim, const std::string& device);
  ~KvBuffer();
  KvBuffer(KvBuffer&&) noexcept;
  KvBuffer& operator=(KvBuffer&&) noexcept;

  [[nodiscard]] int capacity_tokens() const;
  [[nodiscard]] std::byte* keys();
  [[nodiscard]] std::byte* values();

  // Copies positions first..first+count-1 to the device, on a stream of its own, or from it; waits
  // until they are there.
  void Upload(int first, int count);
  void Download(int first, int count);

  // Zeroes positions first..first+count-1: after a restore that left them unspecified.
  void Clear(int first, int count);

  // Copies positions 0..count-1 from a buffer of the same shape. Costs a copy of them.
  void CopyFrom(const KvBuffer& other, int count);

  // Whether positions first..first+count-1 hold the same bits in both.
  [[nodiscard]] bool EqualBits(const KvBuffer& other, int first, int count) const;

  struct Tensors;  // libtorch's view, for the model layer
  [[nodiscard]] Tensors& tensors() { return *tensors_; }

 private:
  std::unique_ptr<Tensors> tensors_;
};

}  // namespace kvr::model

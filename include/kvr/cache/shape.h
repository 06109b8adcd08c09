// The shape of saved keys and values, and where they lie in memory. This layer knows bytes and
// shapes only; what they mean is the model's business.
//
// Thread safety: plain values. Errors: none; sizes hold for shapes within kMaxDimension. Cost: a
// few multiplications.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvr::cache {

// Of one number in a buffer, which is fp32. What a file holds of it is the codec's business
// (codec.h).
inline constexpr std::uint64_t kElementBytes = 4;

struct KvShape {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;

  // Contiguous (layer, head) runs in one tensor.
  [[nodiscard]] std::uint64_t Runs() const { return std::uint64_t{layers} * kv_heads; }
  // A buffer's bytes of `tokens` tokens in one run.
  [[nodiscard]] std::uint64_t RunBytes(std::uint64_t tokens) const {
    return tokens * head_dim * kElementBytes;
  }
  // A buffer's bytes of keys and values of `tokens` tokens.
  [[nodiscard]] std::uint64_t PayloadBytes(std::uint64_t tokens) const {
    return 2 * Runs() * RunBytes(tokens);
  }

  bool operator==(const KvShape&) const = default;
};

// No dimension of a shape, nor the tokens of a block, may be larger. It keeps every product of
// dimensions far inside 64 bits and a block's header far below its limit.
inline constexpr std::uint32_t kMaxDimension = 4096;

// A KV buffer that someone else owns: keys and values, each
// [layers, kv_heads, capacity_tokens, head_dim] without gaps.
struct KvBufferView {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  std::uint32_t capacity_tokens = 0;
};

}  // namespace kvr::cache

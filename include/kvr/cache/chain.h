// Chain hashes: the names of blocks and tails. A name commits to all tokens up to the block's end
// and, through the first parent, to the cache key; keys and values depend on nothing else.
//
// Thread safety: pure functions. Cost: a SHA-256 of the tokens.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "kvr/base/hash.h"
#include "kvr/base/types.h"

namespace kvr::cache {

// One block or tail of a token sequence.
struct ChainLink {
  Digest hash;
  Digest parent;
  std::uint32_t first = 0;  // position of its first token: a multiple of block_tokens
  std::uint32_t count = 0;  // block_tokens, or fewer for the tail
};

// Tokens as little-endian u32: what is hashed and what the index stores.
// REQUIRES: a little-endian machine (checked when compiled).
[[nodiscard]] std::span<const std::byte> TokenBytes(std::span<const Token> tokens);

// SHA-256 of (parent's 32 bytes, token ids as little-endian u32).
[[nodiscard]] Digest ChainHash(const Digest& parent, std::span<const Token> tokens);

// Cuts `tokens` into blocks of `block_tokens` and, if some are left over, a tail; the first
// parent is `root`. Throws kInvalidInput for a negative token id.
[[nodiscard]] std::vector<ChainLink> Chain(const Digest& root, std::span<const Token> tokens,
                                           std::uint32_t block_tokens);

// For hash tables: a digest's first bytes are as good a hash as any.
struct DigestHasher {
  std::size_t operator()(const Digest& digest) const {
    std::size_t value;
    std::memcpy(&value, digest.data(), sizeof value);
    return value;
  }
};

}  // namespace kvr::cache

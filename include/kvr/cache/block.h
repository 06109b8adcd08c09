// One block's file: the keys and values of one block or tail (docs/cache_format.md).
//
// Thread safety: all functions may run concurrently.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "kvr/base/types.h"
#include "kvr/cache/chain.h"
#include "kvr/cache/key.h"

namespace kvr::cache {

struct BlockHeader {
  Digest parent;
  Tokens tokens;
  std::string checksum;  // XXH3-128 of the payload, 32 hex digits
  std::uint64_t data_offset = 0;
  std::uint64_t payload_bytes = 0;
};

class BlockFormat {
 public:
  // Throws kInvalidInput as CacheKey::Check does.
  explicit BlockFormat(const CacheKey& key);

  // Writes the file durably, except for its folder entry. `tokens` are the link's own; their keys
  // and values lie in `source` from position link.first on. Returns the file's size. Throws kIo,
  // kResource, or kInvalidInput when a number is none that the codec can hold (Codec::encode),
  // leaving nothing behind. REQUIRES: link.first + link.count <= source.capacity_tokens.
  std::uint64_t Write(const std::filesystem::path& path, const ChainLink& link,
                      std::span<const Token> tokens, const KvBufferView& source) const;

  // Reads and checks everything but the payload: form, version, key, codec, shape, size, and that
  // `hash` is the hash of the parent and tokens found inside. Throws kCorrupt or kIo.
  [[nodiscard]] BlockHeader ReadHeader(int fd, const std::filesystem::path& path,
                                       const Digest& hash) const;

  // Reads the payload into `buffer` from position `first` on and checks it. Throws kCorrupt when
  // the checksum differs or the file ends early, kIo; the buffer's positions first ..
  // first + tokens - 1 are then unspecified.
  // Cost: one preadv per kBatchBytes into a scratch of that size, which a thread keeps for fp32;
  // from there, still in the second-level cache, it is hashed and copied (fp32) or decoded on.
  // REQUIRES: first + header.tokens.size() <= buffer.capacity_tokens.
  void ReadPayload(int fd, const std::filesystem::path& path, const BlockHeader& header,
                   const KvBufferView& buffer, std::uint32_t first) const;

  [[nodiscard]] const Digest& key_hash() const { return key_hash_; }

 private:
  std::string EncodeHeader(const Digest& hash, const Digest& parent, std::span<const Token> tokens,
                           const std::string& checksum) const;
  // ReadPayload's halves, for fp32 and for the others: the data from `offset` on, into `checksum`.
  void ReadRaw(int fd, const std::filesystem::path& path, std::uint64_t offset,
               std::uint64_t tokens, const KvBufferView& buffer, std::uint32_t first,
               Xxh3* checksum) const;
  void ReadEncoded(int fd, const std::filesystem::path& path, std::uint64_t offset,
                   std::uint64_t tokens, const KvBufferView& buffer, std::uint32_t first,
                   Xxh3* checksum) const;

  KvShape shape_;
  std::uint32_t block_tokens_;
  Codec codec_;
  Digest key_hash_;
};

}  // namespace kvr::cache

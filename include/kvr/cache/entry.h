// One entry's file: a cached prompt's text, tokens and embedding (docs/cache_format.md).
//
// Thread safety: all functions may run concurrently; those that write, on different paths.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "kvr/cache/index.h"

namespace kvr::cache {

// An entry's name: SHA-256 of the canonical JSON of {encoder, last_hash, text}. The last chain hash
// stands for the tokens and the cache key.
[[nodiscard]] Digest EntryId(const std::string& text, const std::string& encoder,
                             const Digest& last_hash);

// Writes the entry durably, except for its folder entry; row.file_bytes and what the index alone
// knows are not used. Returns the file's size. Throws kInvalidInput when a text is not UTF-8 or is
// too long for a header (kMaxHeaderBytes), kIo, kResource.
std::uint64_t WriteEntry(const std::filesystem::path& path, const EntryRow& row,
                         const Digest& key_hash);

// Reads and checks an entry: form, version, key, checksum of everything, its tokens' chain from
// `key_hash`, and its name. hits and last_access_us are 0. Throws kCorrupt, kNotFound or kIo.
[[nodiscard]] EntryRow ReadEntry(const std::filesystem::path& path, const Digest& id,
                                 const Digest& key_hash, std::uint32_t block_tokens);

}  // namespace kvr::cache

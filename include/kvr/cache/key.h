// What decides a stored value's last bit. Two runs share saved keys and values only when their
// cache keys are equal, because then, and only then, recycling changes no bit.
//
// Thread safety: plain values; all functions may run concurrently. Cost: ToJson, Hash and FromJson
// are microseconds; ListCacheFolders reads each subfolder's names and key.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/hash.h"
#include "kvr/cache/codec.h"
#include "kvr/cache/shape.h"

namespace kvr::cache {

// Version of the folder's layout and of all files in it (docs/cache_format.md). It is part of the
// key, so that versions live side by side and never read each other's files.
inline constexpr int kFormatVersion = 2;

// No larger key.json is read; a key has less than a thousand bytes.
inline constexpr std::uint64_t kMaxKeyBytes = 1 << 16;

struct CacheKey {
  std::string model_fingerprint;  // SHA-256 in hex, from the model archive
  KvShape shape;
  std::uint32_t block_tokens = 128;
  Codec codec = Codec::kFp32;   // how files hold the buffer's numbers
  std::string device = "cpu";   // where the values were computed
  std::string cpu_model;        // as the operating system names it
  std::string instruction_set;  // in use, not merely present: "AVX512"
  std::uint32_t threads = 1;
  std::string libtorch_version;
  std::string kernel_path;  // what computes: "amx_1", "avx512_1", "avx2_1", "torch"

  // The canonical text: JSON, names in alphabetical order, no spaces. Its bytes are the contents of
  // key.json and what Hash() hashes, so `sha256sum key.json` prints the folder's name.
  // Throws kInvalidInput when a text is not UTF-8.
  [[nodiscard]] std::string ToJson() const;

  // Reads ToJson()'s text; `where` names its source in errors. Throws kCorrupt for anything that
  // ToJson() would not have written, kIncompatible for another format version or an unknown codec.
  [[nodiscard]] static CacheKey FromJson(const std::string& json, const std::string& where);

  // As above, from a key.json. Throws kIo, kNotFound too; what is no small file is not read.
  [[nodiscard]] static CacheKey FromFile(const std::filesystem::path& path);

  // SHA-256 of ToJson(): the subfolder's name, and the parent of every first block.
  [[nodiscard]] Digest Hash() const;

  // Throws kInvalidInput unless the shape, block_tokens and threads are in 1..kMaxDimension.
  void Check() const;

  bool operator==(const CacheKey&) const = default;
};

struct CacheFolder {
  std::filesystem::path path;
  CacheKey key;
};

// The subfolders of `cache_dir` that hold a cache of this version, by name. Those that ClearCaches
// has emptied are passed over; others are skipped with a warning in the log; `damaged`, if given,
// gets what is wrong with those that are named like a cache and have a key.json of no version.
// Throws kNotFound when `cache_dir` does not exist.
[[nodiscard]] std::vector<CacheFolder> ListCacheFolders(
    const std::filesystem::path& cache_dir, std::vector<std::string>* damaged = nullptr);

// 64 lower-case hex digits.
[[nodiscard]] bool IsCacheFolderName(std::string_view name);

}  // namespace kvr::cache

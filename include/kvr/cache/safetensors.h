// The safetensors container: an 8-byte little-endian header length, a JSON header, the tensors.
// (https://huggingface.co/docs/safetensors: any reader of that format opens these files.)
//
// The reader is stricter than the format: it accepts exactly the bytes this writer produces. A
// header changed in any way is refused even where its meaning would be the same, which is what
// lets a block's other checks cover every byte of its file.
//
// Thread safety: plain values; const methods and Read may run concurrently.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace kvr::cache {

// A longer header is neither written nor read. Bounds the memory a damaged length can cost; an
// entry's text, escaped as JSON, has to fit. The format itself allows 100 MB.
inline constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{16} << 20;

struct Tensor {
  std::string dtype;  // "F32", "I32", "BF16", "F16" or "I8"
  std::vector<std::uint64_t> shape;

  // Throws kCorrupt for an unknown type or when the product leaves 64 bits.
  [[nodiscard]] std::uint64_t Bytes() const;
  bool operator==(const Tensor&) const = default;
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;  // their data follow in this (alphabetical) order

  // The file's first bytes: length, JSON, and spaces up to a multiple of 64, so that the data are
  // aligned for any element type. Throws kInvalidInput when a text is not UTF-8 or the result
  // would exceed kMaxHeaderBytes.
  [[nodiscard]] std::string Encode() const;

  // Bytes of all tensors.
  [[nodiscard]] std::uint64_t DataBytes() const;

  // Reads and checks the header of an open file: length against the limit and the file's size
  // before anything is allocated; then the exact form; then that the tensors fill the rest of the
  // file without gaps. Sets `data_offset` to the first data byte.
  // Throws kCorrupt or kIo. `path` is for messages.
  [[nodiscard]] static SafetensorsHeader Read(int fd, const std::filesystem::path& path,
                                              std::uint64_t* data_offset);

  bool operator==(const SafetensorsHeader&) const = default;
};

}  // namespace kvr::cache

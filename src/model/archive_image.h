// Private to the model layer: an archive's file in memory, checked whole before libtorch sees it.
#pragma once

#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/script.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kvr/base/file.h"
#include "kvr/model/archive.h"

namespace kvr::model {

// The last bytes of an archive: digests of what comes before (docs/archive_format.md).
struct Seal {
  std::string metadata, tokenizer;  // XXH3-128 of the two extra records
  std::string image;                // of the file up to this digest itself, part by part
};

// Absent when the file does not end in a seal. Throws kIo.
[[nodiscard]] std::optional<Seal> ReadSeal(const UniqueFd& fd, const std::filesystem::path& path);

// 32 hex digits.
[[nodiscard]] std::string Xxh3Of(std::string_view bytes);

// What libtorch reads of it comes from this memory. Large records are not even copied: Attach()
// puts them in the place of libtorch's own memory for them, which nobody has touched.
class ArchiveImage final : public caffe2::serialize::ReadAdapterInterface {
 public:
  // Reads the file, by all threads, each hashing the parts that it reads. Throws kCorrupt when the
  // digest is not the seal's, naming the damaged file; kIo; std::bad_alloc.
  explicit ArchiveImage(const std::filesystem::path& path);

  [[nodiscard]] const Seal& seal() const { return seal_; }
  [[nodiscard]] std::size_t size() const override { return size_; }
  std::size_t read(std::uint64_t at, void* to, std::size_t count, const char*) const override;

  // After libtorch has loaded `module` from here. Cost: none of the weights' bytes is touched.
  void Attach(const torch::jit::Module& module);

 private:
  struct Record {
    std::uint64_t at;  // in the file
    std::size_t count;
  };

  const UniqueFd fd_;
  const std::size_t size_;
  const std::shared_ptr<std::byte> image_;
  Seal seal_;
  mutable std::map<const void*, Record> records_;  // by where libtorch wanted them
};

// Loads an archive's module on the CPU, from the very bytes that were checked. Throws kCorrupt
// where they are not the ones that were sealed, or not the file's that `info` was read from.
torch::jit::Module LoadModule(const ArchiveInfo& info);

}  // namespace kvr::model

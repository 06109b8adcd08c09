// The embeddings that a broken-off study leaves to the one that takes it up: vectors of unit
// length, one after the other, as little-endian float32. What is no such vector, and all behind it,
// is dropped and computed again.
//
// Thread safety: none. Errors: kIo, kResource. Not durable before the file is closed by the system:
// what a crash of the machine takes is computed again.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "kvr/base/file.h"

namespace kvr::experiment {

class EmbeddingFile {
 public:
  // Reads what `path` has, or begins anew, also where `keep` is false.
  EmbeddingFile(std::filesystem::path path, std::size_t width, bool keep);

  // What was there.
  [[nodiscard]] const std::vector<std::vector<float>>& read() const { return read_; }
  // REQUIRES: `embedding` has the width.
  void Append(const std::vector<float>& embedding);

 private:
  std::filesystem::path path_;
  UniqueFd file_;
  std::vector<std::vector<float>> read_;
};

}  // namespace kvr::experiment

// Encoder: a sentence encoder's TorchScript archive.
//
// Thread safety: none; a call computes with the process's threads. Errors: what libtorch throws
// comes out as Error. Cost: loading reads the file once and copies no weights.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/model/archive.h"

namespace kvr::model {

class Encoder {
 public:
  // Throws as ReadArchiveInfo does, and kResource.
  explicit Encoder(const std::filesystem::path& path);
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  [[nodiscard]] const ArchiveInfo& info() const { return info_; }

  // Word piece ids, [CLS] and [SEP] included, to an embedding of unit length.
  // REQUIRES: ids is not empty and no longer than info().context_tokens.
  [[nodiscard]] std::vector<float> Embed(std::span<const Token> ids);

 private:
  struct Impl;
  ArchiveInfo info_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvr::model

// A model archive as a file: what it says of itself, read without loading its weights
// (docs/archive_format.md).
//
// Thread safety: functions of their arguments alone; an ArchiveInfo is a plain value. Errors: as
// each function says. Cost: ReadArchiveInfo reads the file's directory and its two small records.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvr/base/types.h"

namespace kvr::model {

inline constexpr int kArchiveFormatVersion = 3;

struct ArchiveInfo {
  std::filesystem::path path;
  std::string kind;    // "language_model" or "encoder"
  std::string family;  // "gpt2", "llama" or "bert"
  std::string name;
  std::string precision;     // of the weights: "fp32", "bf16", "int8" or "source"
  std::string fingerprint;   // SHA-256 in hex
  std::string image_digest;  // of the whole file, as it was sealed
  int layers = 0, heads = 0, kv_heads = 0, head_dim = 0, width = 0, vocab = 0;
  std::int64_t parameters = 0;
  int context_tokens = 0;
  bool random_weights = false;
  std::vector<Token> eos_ids;
  nlohmann::json metadata;      // the whole of metadata.json
  std::string tokenizer_model;  // SentencePiece model, or the vocabulary of word pieces
};

// Throws kNotFound; kCorrupt when the file is no archive, when what is read of it is not what it
// was sealed with, and for a field that is missing or impossible; kIncompatible for another format
// version. The weights are checked when they are loaded.
[[nodiscard]] ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path);

// As above, and refuses an archive of another kind: kIncompatible, naming both.
[[nodiscard]] ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path,
                                          const std::string& kind);

// Loads the weights and compares them with the SHA-256 that the exporter took of them before it
// wrote them. Throws kCorrupt when they differ. Cost: a load, and a SHA-256 over all.
void VerifyWeights(const ArchiveInfo& info);

}  // namespace kvr::model

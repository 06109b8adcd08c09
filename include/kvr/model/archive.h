// A model archive as a file: what it says of itself, read without loading its weights
// (docs/archive_format.md).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvr/base/types.h"

namespace kvr::model {

inline constexpr int kArchiveFormatVersion = 2;

struct ArchiveInfo {
  std::filesystem::path path;
  std::string kind;    // "language_model" or "encoder"
  std::string family;  // "gpt2", "llama" or "bert"
  std::string name;
  std::string precision;    // of the weights: "fp32", "bf16" or "int8"
  std::string fingerprint;  // SHA-256 in hex
  int layers = 0, heads = 0, kv_heads = 0, head_dim = 0, width = 0, vocab = 0;
  std::int64_t parameters = 0;
  int context_tokens = 0;
  bool random_weights = false;
  std::vector<Token> eos_ids;
  nlohmann::json metadata;      // the whole of metadata.json
  std::string tokenizer_model;  // SentencePiece model, or the vocabulary of word pieces
};

// Throws kNotFound, kCorrupt when the file is no archive or lacks a field, kIncompatible for
// another format version.
[[nodiscard]] ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path);

// As above, and refuses an archive of another kind: kIncompatible, naming both.
[[nodiscard]] ArchiveInfo ReadArchiveInfo(const std::filesystem::path& path,
                                          const std::string& kind);

// Loads the weights and compares them with the digest that the exporter wrote. libtorch itself does
// not check what it reads. Throws kCorrupt when they differ. Cost: a load, and a SHA-256 over all.
void VerifyWeights(const ArchiveInfo& info);

}  // namespace kvr::model

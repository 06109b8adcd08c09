// LanguageModel: one TorchScript archive, ready to prefill and decode over a caller's KvBuffer. The
// caller passes position and buffer, so reuse is nothing but another start position.
//
// Thread safety: none; a call computes with the process's threads. Errors: what libtorch throws
// comes out as Error: kIncompatible for a network that cannot run, kResource out of memory. Cost:
// loading reads the file once and copies no weights; a call's is its arithmetic, and a copy of the
// logits.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/model/archive.h"
#include "kvr/model/kv_buffer.h"
#include "kvr/model/limits.h"

namespace kvr::model {

struct LanguageModelOptions {
  int block_tokens = kDefaultBlockTokens;
  std::string device = "cpu";  // or "cuda", "cuda:1"
  bool kernels = true;         // the program's own, where the CPU and the model's shape allow them
};

// Whether rows depend on how a block is cut, on this machine, with this model.
struct Probe {
  bool exact = false;
  int cuts = 0;       // cuts tried
  int first_bad = 0;  // position of the first cut that changed a bit, 0 if none
};

class LanguageModel {
 public:
  // Loads the weights. Throws as ReadArchiveInfo does, kInvalidInput for a device that is unknown
  // or not there, and kResource.
  LanguageModel(const std::filesystem::path& path, const LanguageModelOptions& options);
  ~LanguageModel();
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  [[nodiscard]] const ArchiveInfo& info() const { return info_; }
  [[nodiscard]] int block_tokens() const { return options_.block_tokens; }
  // The longest chunk of a prompt that prefill takes at a time, a multiple of block_tokens: longer
  // with the program's own kernels, where a cut anywhere keeps the bits (if the probe holds), else
  // a block.
  [[nodiscard]] int chunk_tokens() const;
  // The linear layers of one transformer layer, and the output head.
  [[nodiscard]] const std::vector<LinearShape>& layer_shapes() const { return layer_shapes_; }
  [[nodiscard]] LinearShape head_shape() const { return {info_.vocab, info_.width}; }
  // The device's name, as the options give it: "cpu", "cuda", "cuda:1".
  [[nodiscard]] const std::string& device() const { return options_.device; }
  // The name with what it is: "cpu", "cuda: NVIDIA H200". Cache keys and reports hold this.
  [[nodiscard]] const std::string& device_description() const { return device_description_; }
  // What computes: the program's own kernels, "amx_1", "avx512_1" or "avx2_1" (the version of their
  // arithmetic), or "torch".
  [[nodiscard]] const std::string& kernel_path() const { return kernel_path_; }

  // A buffer for `tokens` tokens, its capacity rounded up to a block edge.
  [[nodiscard]] KvBuffer NewBuffer(int tokens) const;

  // Computes positions past..past+ids.size()-1 over the keys and values below `past`, writes
  // theirs, and returns the last token's logits [vocab]. One call is one chunk, whatever its
  // length: the schedule is the caller's. Throws kInvalidInput for an id outside the vocabulary.
  // REQUIRES: ids is not empty; the buffer reaches the block
  // edge behind the last token and is finite there; the last position lies inside the context.
  std::vector<float> Prefill(std::span<const Token> ids, int past, KvBuffer& buffer);

  // As Prefill, with the logits of every token: [ids.size(), vocab], row by row.
  std::vector<float> PrefillAllLogits(std::span<const Token> ids, int past, KvBuffer& buffer);

  // One decode step at position `past`. With torch's kernels the keys and values that it writes are
  // not bit for bit those of Prefill, so nobody stores them (design law 1).
  std::vector<float> Decode(Token id, int past, KvBuffer& buffer);

  // Cuts a chunk of pseudo-random ids at the second block's edge and at several depths around it,
  // one row and odd counts among them, and compares logits, keys and values bit for bit with the
  // uncut chunk. Costs about 900 prefilled tokens, or 1,700 with torch's kernels.
  [[nodiscard]] Probe RunProbe();

 private:
  struct Impl;
  std::vector<float> Call(const char* method, std::span<const Token> ids, int past,
                          KvBuffer& buffer);

  ArchiveInfo info_;
  LanguageModelOptions options_;
  std::unique_ptr<Impl> impl_;
  std::vector<LinearShape> layer_shapes_;
  std::string kernel_path_, device_description_;
};

}  // namespace kvr::model

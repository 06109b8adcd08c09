// Generator: prompts to tokens, by either arm, with what each phase cost.
//
// Both arms prefill by one schedule, from 0 or from the depth that was restored. Where the probe
// found that rows do not depend on how they are cut into chunks, that is in long ones; elsewhere in
// chunks cut at absolute block edges, so that a restart at an edge repeats the same arithmetic. One
// KvBuffer serves all calls.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/cache/store.h"
#include "kvr/engine/policy.h"
#include "kvr/engine/sampler.h"
#include "kvr/model/encoder.h"
#include "kvr/model/language_model.h"
#include "kvr/text/chat_template.h"
#include "kvr/text/tokenizer.h"
#include "kvr/text/wordpiece.h"

namespace kvr::engine {

enum class Arm { kBaseline, kRecycled };
[[nodiscard]] const char* ToString(Arm arm);

// How saved keys and values are found and how much of an entry may be reused, and of which store.
struct Reuse {
  Policy policy = Policy::kPrefix;
  cache::Match match = cache::Match::kToken;
  int candidates = 5;        // by similarity: entries looked at, the nearest first
  float min_similarity = 0;  // by similarity: a smaller cosine is no candidate
  std::uint32_t min_depth = 1;
  cache::Codec codec = cache::Codec::kFp32;  // of the store to restore from
  bool cold = false;  // drop the plan's files from the page cache before the restore
};

struct Request {
  std::string text;
  Tokens tokens;  // Encode(text); computed by the caller, so that no clock includes it
  Arm arm = Arm::kBaseline;
  Reuse reuse;                        // recycled arm only
  const cache::View* view = nullptr;  // recycled arm: what it may see of reuse.codec's store
  int max_new_tokens = 64;
  Sampling sampling;
  bool stop_at_eos = true;
  int free_chunk_tokens = 0;  // baseline without the schedule: chunks of this length
  bool keep_logits = false;   // Generation::logits, a row for each new token
  Tokens forced;              // teacher forcing: these are the new tokens, whatever is sampled
  std::function<void(Token)> on_token;  // called for each new token, outside the clock
};

// Milliseconds by the steady clock. ttft_ms is the sum of the phases before the first token: what
// lies between them (dropping files from the page cache, callbacks) is not the arm's.
struct Timings {
  double embed_ms = 0;    // word pieces and sentence embedding
  double lookup_ms = 0;   // candidates, verification, chain walk
  double restore_ms = 0;  // read, check, copy into the buffer
  double prefill_ms = 0;  // the remaining chunks, and picking the first token
  double ttft_ms = 0;
  double decode_ms = 0;  // the tokens after the first
  double total_ms = 0;   // ttft_ms + decode_ms
};

// What a generation did, in numbers that are the same on every machine and at every load.
struct Work {
  std::int64_t prefilled_tokens = 0;  // of the prompt, computed and not restored
  std::int64_t forward_passes = 0;    // of the language model: chunks of prefill, tokens decoded
  std::int64_t restored_blocks = 0;   // tails are blocks too
  std::int64_t compared_entries = 0;  // candidates, token by token
  std::int64_t opened_files = 0;
};

enum class Outcome { kHit, kMiss, kOff };
[[nodiscard]] const char* ToString(Outcome outcome);

struct Generation {
  Tokens tokens;       // new ones; the end-of-text token included if it came
  bool ended = false;  // by end of text
  Timings timings;
  Outcome outcome = Outcome::kOff;
  std::optional<cache::LimitedBy> limited_by;  // recycled arm only
  int reuse_depth = 0;
  bool exact_claimed = true;  // the law says: equal to the baseline bit for bit
  // Of the used entry; on a miss the nearest candidate's.
  std::optional<float> similarity;
  std::optional<Digest> entry;
  std::uint64_t restored_bytes = 0;
  Work work;
  // Of these, in the page cache before; absent when nothing was read or the system can't tell.
  std::optional<double> resident_fraction;
  std::vector<std::vector<float>> logits;
  std::vector<double> token_ms;  // from the start, by the arm's clock, until each new token
};

struct SaveResult {
  cache::PutResult put;
  int tokens = 0;
  int prefilled = 0;      // of them, computed anew
  double prefill_ms = 0;  // computing them
  double save_ms = 0;     // the rest of storing it: embedding it, writing it durably
};

class Generator {
 public:
  struct Options {
    std::filesystem::path model;
    std::filesystem::path encoder;  // empty: none, and no policy that compares embeddings
    model::LanguageModelOptions language_model;
  };

  // Loads the archives. Throws as they do.
  explicit Generator(const Options& options);

  [[nodiscard]] const model::ArchiveInfo& info() const { return model_.info(); }
  [[nodiscard]] const model::Encoder* encoder() const { return encoder_.get(); }
  [[nodiscard]] model::LanguageModel& language_model() { return model_; }
  [[nodiscard]] const text::Tokenizer& tokenizer() const { return tokenizer_; }
  // Nothing when the archive has no chat template.
  [[nodiscard]] const std::optional<text::ChatTemplate>& chat_template() const { return template_; }
  // Bytes of keys and values per token.
  [[nodiscard]] std::uint64_t kv_bytes_per_token() const;

  // What names this model's values on this machine, stored by `codec`.
  [[nodiscard]] cache::CacheKey cache_key(cache::Codec codec = cache::Codec::kFp32) const;

  // Opens a store that Generate restores from and Save writes to; one of each codec may be open,
  // and an earlier one of the same codec is closed. Throws as cache::Store does.
  void OpenStore(const std::filesystem::path& cache_dir, cache::Store::Options options,
                 cache::Codec codec = cache::Codec::kFp32);
  // Null when none is open.
  [[nodiscard]] cache::Store* store(cache::Codec codec = cache::Codec::kFp32);

  // The start-up probe's finding; the probe runs when first asked for.
  [[nodiscard]] const model::Probe& probe();

  struct Embedding {
    std::vector<float> values;
    std::size_t pieces_embedded = 0, pieces_total = 0;
  };
  // REQUIRES: an encoder.
  [[nodiscard]] Embedding Embed(std::string_view text);

  // What new tokens say: without special tokens, and valid UTF-8 even where a character is cut off.
  [[nodiscard]] std::string Text(const Tokens& tokens) const;

  // Throws kInvalidInput for an empty prompt or one that, with max_new_tokens, passes the context;
  // kInterrupted within a chunk of prefill or a decoded token after the user asked to stop.
  Generation Generate(const Request& request);

  // Runs a few tokens through each network, so that what libtorch does once (code generation,
  // thread start-up, first touch of the weights) is on nobody's clock.
  void WarmUp();

  // Stores `text` under its own tokens: what the buffer still holds of their exact values is used,
  // the rest is prefilled on the schedule. After Generate that is the prompt, so a reply's
  // tokens are prefilled again (design law 1); after a lossy restore it is nothing, so what is
  // stored never descends from values that a codec has changed. Throws as Generate and
  // cache::Store::Put do.
  // REQUIRES: an open store of `codec`.
  SaveResult Save(const std::string& text, cache::Codec codec = cache::Codec::kFp32);
  // The same for tokens that need not be those of their text, such as a reply's. Without text, no
  // embedding finds them.
  SaveResult Save(Tokens tokens, cache::Codec codec = cache::Codec::kFp32, std::string text = "");

  // Forgets what the buffer holds, so that the next Save computes everything.
  void ForgetBuffer() { resident_.clear(); }

 private:
  void Reserve(std::size_t tokens);
  cache::KvBufferView BufferView();
  // The schedule's chunk: a block, ending at its edge; longer, and ending anywhere, only where the
  // probe holds.
  std::size_t ChunkTokens();
  // Prefills tokens[start..] in chunks, counted in `work` where it is given; `free_chunk` 0 keeps
  // the schedule. Returns the last token's logits.
  std::vector<float> Prefill(std::span<const Token> tokens, std::size_t start, int free_chunk,
                             Work* work = nullptr);
  // The new tokens that are asked for, at most. Throws kInvalidInput as Generate does.
  [[nodiscard]] int CheckedLimit(const Request& request) const;
  // Looks up and restores what the recycled arm may; returns the depth.
  std::size_t Recycle(const Request& request, Generation& generation);
  // Restores the plan's tokens; returns how many came.
  std::size_t Restore(const cache::Plan& plan, const Request& request, Generation& generation);
  // How many of the prompt's tokens have exact keys and values in the buffer once all are there,
  // `restored` of them from the store.
  [[nodiscard]] std::size_t ExactTokens(const Request& request, const Generation& generation,
                                        std::size_t restored) const;
  // `entry` has its text and tokens; the rest is filled in.
  SaveResult SaveEntry(cache::NewEntry entry, cache::Codec codec);

  model::LanguageModel model_;
  const cache::CacheKey key_;  // of the fp32 store
  std::unique_ptr<model::Encoder> encoder_;
  text::Tokenizer tokenizer_;
  std::optional<text::WordPiece> word_pieces_;
  std::optional<text::ChatTemplate> template_;
  std::map<cache::Codec, std::unique_ptr<cache::Store>> stores_;
  std::optional<model::Probe> probe_;
  model::KvBuffer buffer_;
  Tokens resident_;  // tokens whose exact keys and values lie at the buffer's start
};

}  // namespace kvr::engine

// Computes a sweep's cells with the engine.
#include <algorithm>
#include <map>
#include <set>

#include "kvr/base/hash.h"
#include "kvr/experiment/environment.h"
#include "kvr/experiment/executor.h"
#include "kvr/experiment/fidelity.h"
#include "kvr/experiment/generation_record.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/trace_workload.h"
#include "kvr/model/runtime.h"

namespace kvr::experiment {
namespace {

class EngineExecutor : public Executor {
 public:
  explicit EngineExecutor(const Config& config) : config_(config) {
    model::SetUpRuntime(config.threads);
  }

  Json Environment() override { return DescribeEnvironment(); }

  record::ModelInfo Load(const ModelChoice& choice, const Progress& progress) override {
    Unload();
    progress("loading " + choice.path);
    generator_.emplace(engine::Generator::Options{
        .model = choice.path,
        .encoder = config_.encoder,
        .language_model = {.block_tokens = config_.block_tokens, .device = config_.device}});
    progress("checking prompts");
    prompts_ = PreparePrompts(
        config_, {generator_->info(), generator_->tokenizer(), generator_->chat_template()},
        [&](const Tokens& prompt, int max_new_tokens) {
          progress("replying to " + std::to_string(prompt.size()) + " tokens");
          return Answer(prompt, max_new_tokens);
        });
    progress("probing " + generator_->info().name);
    return Describe();
  }

  std::vector<std::size_t> PromptTokens() const override {
    std::vector<std::size_t> tokens;
    for (const TestedTokens& prompt : prompts_.test) tokens.push_back(prompt.tokens.size());
    return tokens;
  }

  std::optional<std::string> ParentOf(std::size_t prompt) const override {
    const std::optional<std::size_t> parent = prompts_.test[prompt].parent;
    if (!parent) return std::nullopt;
    return config_.cache_prompts[*parent].id;
  }

  std::string CacheName(cache::Codec codec) override {
    return Hex(generator_->cache_key(codec).Hash());
  }

  void OpenCache(const std::filesystem::path& folder, cache::Codec codec) override {
    generator_->OpenStore(folder, {}, codec);
    seen_.clear();
    entries_[codec].assign(config_.cache_prompts.size(), Digest{});
  }

  std::optional<record::Fill> Fill(std::size_t cached, cache::Codec codec, bool recorded) override {
    const auto save = [&] {
      const CachedTokens& prompt = prompts_.cached[cached];
      generator_->ForgetBuffer();
      if (prompt.answered_tokens && cache::IsExact(codec)) AnswerAgain(prompt, codec);
      return generator_->Save(prompt.tokens, codec, prompt.text);
    };
    engine::SaveResult saved = save();
    entries_[codec][cached] = saved.put.entry;
    const std::string& id = config_.cache_prompts[cached].id;
    entry_names_.emplace(saved.put.entry, id);
    const bool same_text = !seen_.insert(saved.put.entry).second;
    if (same_text || recorded) return std::nullopt;
    if (!saved.put.created) {
      // The process was killed after this was stored and before it was recorded: once more.
      generator_->store(codec)->Remove(saved.put.entry);
      saved = save();
    }
    return record::Fill{.model = generator_->info().name,
                        .precision = generator_->info().precision,
                        .entry = id,
                        .codec = cache::ToString(codec),
                        .tokens = static_cast<std::int64_t>(saved.tokens),
                        .prefill_ms = saved.prefill_ms,
                        .save_ms = saved.save_ms,
                        .bytes = static_cast<std::int64_t>(saved.put.bytes_written),
                        .new_blocks = static_cast<std::int64_t>(saved.put.blocks_written),
                        .shared_blocks = static_cast<std::int64_t>(saved.put.blocks_shared)};
  }

  void Freeze(cache::Codec codec) override {
    views_.emplace(codec, generator_->store(codec)->MakeView());
  }

  double TtftMs(std::size_t prompt, int free_tokens) override {
    engine::Request request = MakeRequest({prompt, {}}, 0, 0);
    request.max_new_tokens = 1;
    request.free_chunk_tokens = free_tokens;
    return generator_->Generate(request).timings.ttft_ms;
  }

  void WarmUp(const Step& step, int free_tokens) override {
    engine::Request request = MakeRequest(step, 0, free_tokens);
    request.max_new_tokens = std::min(request.max_new_tokens, 2);
    (void)generator_->Generate(request);
  }

  void Run(const Step& step, int round, int free_tokens, record::Cell* cell) override {
    const engine::Generation& reference = Reference(step.prompt, round);
    const engine::Request request = MakeRequest(step, round, free_tokens);
    const LoadMeter meter;
    engine::Generation generation = generator_->Generate(request);
    const LoadMeter::Load load = meter.Measure();
    cell->wall_ms = load.wall_ms;
    cell->other_cpu_ms = load.other_cpu_ms;
    cell->steal_ms = load.steal_ms;
    cell->peak_memory_bytes = load.peak_memory_bytes;
    // Free chunks round as the schedule does only where the probe holds; elsewhere they promise
    // nothing and are not compared.
    if (step.plan.free && !generator_->probe().exact) {
      generation.exact_claimed = false;
    } else {
      cell->fidelity =
          MeasureFidelity(*generator_, request, reference, generation, request.max_new_tokens > 1);
    }
    experiment::Describe(*generator_, request, generation, cell);
    DescribeSweep(step.prompt, request, generation, cell);
  }

  void Unload() noexcept override {
    entries_.clear();
    views_.clear();
    subset_.reset();
    references_.clear();
    entry_names_.clear();
    generator_.reset();
  }

 private:
  record::ModelInfo Describe() {
    const model::ArchiveInfo& info = generator_->info();
    const model::Probe& probe = generator_->probe();
    record::ModelInfo described{
        .name = info.name,
        .precision = info.precision,
        .device = generator_->language_model().device_description(),
        .fingerprint = info.fingerprint,
        .random_weights = info.random_weights,
        .probe_exact = probe.exact,
        .probe_cuts = probe.cuts,
        .context_tokens = info.context_tokens,
        .kv_bytes_per_token = static_cast<std::int64_t>(generator_->kv_bytes_per_token())};
    if (const model::Encoder* const encoder = generator_->encoder()) {
      described.encoder_fingerprint = encoder->info().fingerprint;
    }
    for (const cache::Codec codec : config_.codecs) {
      const cache::CacheKey key = generator_->cache_key(codec);
      described.cache_keys[cache::ToString(codec)] = Json::parse(key.ToJson());
      described.stored_bytes_per_token[cache::ToString(codec)] =
          static_cast<std::int64_t>(cache::StoredBytes(codec, key.shape, 1));
    }
    return described;
  }

  // A baseline's new tokens.
  Tokens Answer(const Tokens& prompt, int max_new_tokens) {
    engine::Request request;
    request.tokens = prompt;
    request.max_new_tokens = max_new_tokens;
    request.sampling = config_.sampling;
    request.stop_at_eos = config_.stop_at_eos;
    return generator_->Generate(request).tokens;
  }

  // Brings the keys and values of what `cached` answers into the buffer as whoever answered it has
  // them: restored as far as the cache goes, computed from there on.
  void AnswerAgain(const CachedTokens& cached, cache::Codec codec) {
    const cache::View view = generator_->store(codec)->MakeView();
    engine::Request request;
    request.tokens = cached.tokens;
    request.tokens.resize(*cached.answered_tokens);
    request.arm = engine::Arm::kRecycled;
    request.reuse.codec = codec;
    request.view = &view;
    request.max_new_tokens = 1;
    (void)generator_->Generate(request);
  }

  // What of the codec's cache the prompt's cells may see.
  cache::View Visible(std::size_t prompt, cache::Codec codec, const cache::View& all) const {
    const auto& sees = prompts_.test[prompt].sees;
    if (!sees) return all;
    std::set<Digest> ids;  // two cached prompts of the same tokens are one entry
    for (const std::size_t cached : *sees) ids.insert(entries_.at(codec)[cached]);
    return all.Subset(std::vector<Digest>(ids.begin(), ids.end()));
  }

  // The same, kept for the prompt's next cell.
  const cache::View* ViewOf(std::size_t prompt, cache::Codec codec) {
    const cache::View& all = views_.at(codec);
    if (!prompts_.test[prompt].sees) return &all;
    if (!subset_ || subset_->prompt != prompt || subset_->codec != codec) {
      subset_.emplace(Subset{prompt, codec, Visible(prompt, codec, all)});
    }
    return &subset_->view;
  }

  engine::Request MakeRequest(const Step& step, int round, int free_tokens) {
    const CellPlan& plan = step.plan;
    engine::Request request;
    request.text = prompts_.test[step.prompt].text;
    request.tokens = prompts_.test[step.prompt].tokens;
    request.arm = plan.arm;
    request.reuse = plan.reuse;
    if (plan.arm == engine::Arm::kRecycled) {
      request.view = ViewOf(step.prompt, plan.reuse.codec);
    }
    const bool all = !config_.long_prompts;
    request.max_new_tokens =
        plan.goes_on || all ? prompts_.test[step.prompt].limit : config_.marks.front();
    request.sampling = config_.sampling;
    request.sampling.seed += static_cast<std::uint64_t>(round);
    request.stop_at_eos = config_.stop_at_eos;
    request.free_chunk_tokens = plan.free ? free_tokens : 0;
    request.keep_logits = true;
    return request;
  }

  // What a prompt's cells are compared with: a scheduled baseline that is itself not measured. Kept
  // for the rounds to come, unless all of them would take too much memory or each repetition has a
  // seed of its own.
  const engine::Generation& Reference(std::size_t prompt, int round) {
    constexpr std::uint64_t kMemory = std::uint64_t{1} << 30;
    if (config_.sampling.temperature > 0 && round != reference_round_) references_.clear();
    reference_round_ = round;
    const auto found = references_.find(prompt);
    if (found != references_.end()) return found->second;
    const auto row = static_cast<std::uint64_t>(generator_->info().vocab) * sizeof(float);
    std::uint64_t bytes = 0;
    for (const TestedTokens& test : prompts_.test) {
      bytes += static_cast<std::uint64_t>(test.limit) * row;
    }
    if (bytes > kMemory) references_.clear();
    return references_[prompt] =
               generator_->Generate(MakeRequest({prompt, {.goes_on = true}}, round, 0));
  }

  // What the generation alone does not tell.
  void DescribeSweep(std::size_t prompt, const engine::Request& request,
                     const engine::Generation& generation, record::Cell* cell) const {
    const TestedTokens& tested = prompts_.test[prompt];
    cell->truncated_tokens = tested.truncated_tokens;
    if (tested.history_tokens) {
      cell->history_tokens = static_cast<std::int64_t>(*tested.history_tokens);
    }
    if (generation.entry) {
      const auto name = entry_names_.find(*generation.entry);
      if (name != entry_names_.end()) cell->entry = name->second;
    }
    if (cell->recycled() && tested.expected_depth) {
      cell->expected_depth =
          ExpectedDepth(*tested.expected_depth, request.reuse, config_.block_tokens);
    }
    if (cell->recycled()) {
      cell->available_depth =
          request.view
              ->WalkPrefix(
                  {.tokens = request.tokens, .text = request.text, .match = cache::Match::kToken})
              .depth;
    }
    cell->totals_ms.emplace();
    for (const int mark : config_.marks) {
      const auto count = static_cast<std::size_t>(mark);
      if (generation.token_ms.size() >= count) {
        (*cell->totals_ms)[mark] = generation.token_ms[count - 1];
      }
    }
  }

  const Config& config_;
  // Of the model that is loaded.
  std::optional<engine::Generator> generator_;
  Prompts prompts_;
  struct Subset {
    std::size_t prompt;
    cache::Codec codec;
    cache::View view;
  };

  std::map<cache::Codec, cache::View> views_;
  std::optional<Subset> subset_;
  std::map<cache::Codec, std::vector<Digest>> entries_;  // of each cached prompt
  std::map<std::size_t, engine::Generation> references_;
  int reference_round_ = 0;
  std::map<Digest, std::string> entry_names_;
  std::set<Digest> seen_;  // entries of the cache that is being filled
};

}  // namespace

std::unique_ptr<Executor> MakeEngineExecutor(const Config& config) {
  return std::make_unique<EngineExecutor>(config);
}

}  // namespace kvr::experiment

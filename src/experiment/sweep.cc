#include "kvr/experiment/sweep.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/hash.h"
#include "kvr/base/interrupt.h"
#include "kvr/engine/prompt.h"
#include "kvr/experiment/cells.h"
#include "kvr/experiment/environment.h"
#include "kvr/experiment/fidelity.h"
#include "kvr/experiment/run_folder.h"
#include "kvr/experiment/statistics.h"
#include "kvr/model/runtime.h"

namespace kvr::experiment {

namespace fs = std::filesystem;

namespace {

// What one cell runs, apart from prompt and repetition.
struct Variant {
  engine::Arm arm = engine::Arm::kBaseline;
  bool free = false;  // prefill in free pieces; the schedule's otherwise
  bool control = false;
  bool goes_on = false;  // decodes a long prompt to the last mark
  engine::Reuse reuse;
};

// The one baseline, twice, the same work as a recycled arm that reuses nothing, and each reuse.
std::vector<Variant> Variants(const Config& config, bool free) {
  std::vector<Variant> variants = {
      {.free = free, .goes_on = true},
      {.free = free, .control = true, .goes_on = true},
      {.arm = engine::Arm::kRecycled,
       .free = free,
       .goes_on = true,
       .reuse = {.policy = engine::Policy::kOff, .codec = config.codecs[0]}}};
  for (const engine::Reuse& reuse : config.reuses) {
    const bool first = variants.size() == 3;
    variants.push_back({.arm = engine::Arm::kRecycled, .goes_on = first, .reuse = reuse});
  }
  return variants;
}

// Fisher-Yates by our own draws: std::shuffle differs between standard libraries.
template <typename T>
void Shuffle(std::vector<T>* items, std::mt19937_64* random) {
  for (std::size_t i = items->size(); i > 1; --i) {
    std::swap((*items)[i - 1], (*items)[(*random)() % i]);
  }
}

// Whether each test prompt is decoded to the last mark: config.long_prompts of those outside the
// control groups, in turn from each group, drawn by the seed.
std::vector<bool> LongPrompts(const Config& config) {
  std::vector<bool> is_long(config.test_prompts.size(), !config.long_prompts.has_value());
  if (!config.long_prompts) return is_long;
  std::vector<std::size_t> order(config.test_prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937_64 random(config.sampling.seed);
  Shuffle(&order, &random);
  std::map<std::string, std::vector<std::size_t>> groups;
  for (const std::size_t prompt : order) {
    const std::string& group = config.test_prompts[prompt].group;
    const auto& controls = config.control_groups;
    if (std::find(controls.begin(), controls.end(), group) == controls.end()) {
      groups[group].push_back(prompt);
    }
  }
  int left = *config.long_prompts;
  for (bool any = true; any && left > 0;) {
    any = false;
    for (auto& [group, prompts] : groups) {
      if (prompts.empty() || left == 0) continue;
      is_long[prompts.back()] = any = true;
      prompts.pop_back();
      --left;
    }
  }
  return is_long;
}

// The config's prompts as one model reads them.
struct Prompts {
  std::vector<engine::Prompt> test;
  std::vector<int> limits;  // new tokens of those variants that go on
  std::vector<engine::OpenTurn> cached;
  std::vector<std::optional<std::size_t>> parents;  // of each test prompt, into `cached`
};

void CheckLength(const std::string& what, std::size_t tokens, int new_tokens,
                 const model::ArchiveInfo& info, const std::string& remedy) {
  if (tokens == 0) throw InvalidInput(what + ": has no tokens for " + info.name);
  if (tokens + static_cast<std::size_t>(new_tokens) <=
      static_cast<std::size_t>(info.context_tokens)) {
    return;
  }
  throw InvalidInput(what + ": its " + std::to_string(tokens) + " tokens and " +
                     std::to_string(new_tokens) + " to generate pass the context of " +
                     std::to_string(info.context_tokens) + " tokens of " + info.name + remedy);
}

// Throws kInvalidInput for a prompt that does not fit the context.
Prompts PreparePrompts(const Config& config, const engine::PromptContext& context) {
  Prompts prompts;
  for (const CachedPrompt& cached : config.cache_prompts) {
    prompts.cached.push_back(engine::PrepareOpenTurn(context, cached.text, config.chat));
    CheckLength("cached prompt " + cached.id, prompts.cached.back().tokens.size(), 0, context.info,
                "");
  }
  const std::vector<bool> is_long = LongPrompts(config);
  for (std::size_t i = 0; i < config.test_prompts.size(); ++i) {
    const TestPrompt& test = config.test_prompts[i];
    prompts.limits.push_back(is_long[i] ? config.marks.back() : config.marks.front());
    prompts.test.push_back(engine::PreparePrompt(context, test.text, config.chat,
                                                 config.truncate_left, prompts.limits.back()));
    const Tokens& tokens = prompts.test.back().tokens;
    CheckLength("test prompt " + test.id, tokens.size(), prompts.limits.back(), context.info,
                "; \"truncate\": \"left\" cuts the prompt");
    std::optional<std::size_t> parent;
    std::size_t longest = 0;
    for (std::size_t j = 0; j < prompts.cached.size(); ++j) {
      const engine::OpenTurn& cached = prompts.cached[j];
      const auto differ =
          std::mismatch(tokens.begin(), tokens.end(), cached.tokens.begin(), cached.tokens.end());
      const auto common = static_cast<std::size_t>(differ.first - tokens.begin());
      // What the template alone has makes nobody a parent.
      if (common <= std::max(longest, cached.opening_tokens)) continue;
      longest = common;
      parent = j;
    }
    prompts.parents.push_back(parent);
  }
  return prompts;
}

class Sweep {
 public:
  Sweep(const Config& config, const SweepOptions& options)
      : config_(config), options_(options), folder_(options.folder) {}

  void Run() {
    model::SetUpRuntime(config_.threads);
    Open();
    if (done_ < total_) {
      for (const ModelChoice& choice : config_.models) RunModel(choice);
    }
    if (!run_["cache"]["kept"].get<bool>()) {
      folder_.RemoveCache(run_["cache"]["subfolders"].get<std::vector<std::string>>());
    }
    run_["finished"] = UtcTimestamp(UnixSeconds());
    WriteRun();
  }

 private:
  void Progress(const std::string& what) {
    ThrowIfInterrupted();
    if (options_.progress) options_.progress(what, done_, total_);
  }

  void WriteRun() { folder_.WriteDescription(run_); }

  // Begins a run in the folder, or takes up the one that was left there.
  void Open() {
    total_ = CellsPerModel(config_) * static_cast<std::int64_t>(config_.models.size());
    if (options_.resume && folder_.HoldsRun()) {
      TakeUp();
    } else {
      CheckFree(folder_.path());
      run_ = {{"schema", kResultsSchema},
              {"name", config_.name},
              {"config", config_.json},
              {"prompts", PromptNames()},
              {"prompts_sha256", PromptsDigest()},
              {"environment", DescribeEnvironment()},
              {"models", Json::array()},
              {"cache", {{"subfolders", Json::array()}, {"kept", false}}},
              {"fill", Json::array()},
              {"started", UtcTimestamp(UnixSeconds())}};
    }
    run_["finished"] = nullptr;
    // Once kept, it stays kept.
    if (options_.keep_cache) run_["cache"]["kept"] = true;
    WriteRun();
  }

  // Reads what was left, which must be of this config, machine and program.
  void TakeUp() {
    folder_.DropTornLine();
    before_ = ReadRun(folder_.path());
    const std::string where = folder_.path().string();
    if (before_.schema != kResultsSchema) {
      throw Incompatible(where + " was begun by another version of this program; start a new run");
    }
    if (before_.config != config_.json) {
      throw InvalidInput(where +
                         " was begun with another config; it can't be resumed with this one");
    }
    if (before_.prompts_sha256 != PromptsDigest()) {
      throw InvalidInput(where +
                         " was begun with other prompts: the files have changed; start a new run");
    }
    const Json now = DescribeEnvironment();
    for (const char* field :
         {"cpu_model", "instruction_set", "threads", "libtorch_version", "commit"}) {
      const Json then = before_.environment.value(field, Json());
      if (then != now.at(field)) {
        throw Incompatible(where + " was begun with " + field + " " + DumpLine(then) +
                           ", this is " + DumpLine(now.at(field)) + "; start a new run");
      }
    }
    for (const std::string& warning : before_.warnings) spdlog::warn("{}", warning);
    for (const Cell& cell : before_.cells) {
      if (!OfThisConfig(cell)) ++before_.stray_cells;
      finished_.insert(Identity(cell));
    }
    if (before_.stray_cells > 0) {
      throw Corrupt(folder_.cells().string() + ": " + std::to_string(before_.stray_cells) +
                    " cells are none that this config makes; start a new run");
    }
    done_ = static_cast<std::int64_t>(finished_.size());
    run_ = ReadJsonFile(folder_.description());
    for (const char* list : {"models", "fill"}) {
      if (!run_.contains(list)) run_[list] = Json::array();
    }
    if (!run_.contains("cache") || run_["cache"].is_null()) {
      run_["cache"] = {{"subfolders", Json::array()}, {"kept", before_.cache_kept}};
    }
  }

  bool OfThisConfig(const Cell& cell) const {
    const auto model =
        std::find_if(before_.models.begin(), before_.models.end(), [&](const ModelInfo& info) {
          return info.name == cell.model && info.precision == cell.precision;
        });
    if (model == before_.models.end() || cell.repetition >= config_.repetitions) return false;
    const std::vector<Variant> variants = Variants(config_, model->baseline_schedule == "free");
    return std::any_of(variants.begin(), variants.end(), [&](const Variant& variant) {
      Cell made;
      made.model = cell.model;
      made.precision = cell.precision;
      made.prompt_id = cell.prompt_id;
      made.repetition = cell.repetition;
      Describe(variant, &made);
      return Identity(made) == Identity(cell);
    });
  }

  Json PromptNames() const {
    Json names = Json::array();
    for (const TestPrompt& prompt : config_.test_prompts) names.push_back(prompt.id);
    return names;
  }

  // Of all prompts, by name and text: the config has no more than their files' names.
  std::string PromptsDigest() const {
    Json all = Json::array();
    for (const CachedPrompt& prompt : config_.cache_prompts)
      all.push_back({prompt.id, prompt.text});
    all.push_back(nullptr);
    for (const TestPrompt& prompt : config_.test_prompts) {
      all.push_back({prompt.id, prompt.group, prompt.text});
    }
    Sha256 digest;
    digest.Update(DumpLine(all));
    return Hex(digest.Finish());
  }

  void RunModel(const ModelChoice& choice) {
    Progress("loading " + choice.path);
    engine::Generator generator(
        {.model = choice.path,
         .encoder = config_.encoder,
         .language_model = {.block_tokens = config_.block_tokens, .device = config_.device}});
    generator_ = &generator;
    references_.clear();
    entry_names_.clear();

    Progress("checking prompts");
    prompts_ = PreparePrompts(config_,
                              {generator.info(), generator.tokenizer(), generator.chat_template()});
    Progress("probing " + generator.info().name);
    (void)generator.probe();
    for (const cache::Codec codec : config_.codecs) {
      OpenCache(codec);
      Fill(codec);
      views_.emplace(codec, generator.store(codec)->MakeView());
    }
    ChooseBaseline();
    WarmUp();
    for (int round = 0; round < config_.repetitions; ++round) RunRound(round);
    generator_ = nullptr;
    views_.clear();
  }

  // Its name is recorded before it is made, so that nothing is left that nobody removes.
  void OpenCache(cache::Codec codec) {
    const std::string name = Hex(generator_->cache_key(codec).Hash());
    Json& subfolders = run_["cache"]["subfolders"];
    if (std::find(subfolders.begin(), subfolders.end(), name) == subfolders.end()) {
      subfolders.push_back(name);
      WriteRun();
    }
    generator_->OpenStore(folder_.cache(), {}, codec);
  }

  // The cached prompts, each computed from nothing so that its cost is its own.
  void Fill(cache::Codec codec) {
    const model::ArchiveInfo& info = generator_->info();
    std::set<Digest> seen;
    for (std::size_t i = 0; i < prompts_.cached.size(); ++i) {
      const std::string& id = config_.cache_prompts[i].id;
      Progress("caching " + id + " as " + cache::ToString(codec));
      const auto save = [&] {
        generator_->ForgetBuffer();
        return generator_->Save(prompts_.cached[i].text, codec);
      };
      engine::SaveResult saved = save();
      entry_names_.emplace(saved.put.entry, id);
      const bool same_text = !seen.insert(saved.put.entry).second;
      if (same_text || Filled(id, codec)) continue;
      if (!saved.put.created) {
        // The process was killed after this was stored and before it was recorded: once more.
        generator_->store(codec)->Remove(saved.put.entry);
        saved = save();
      }
      run_["fill"].push_back({{"model", info.name},
                              {"precision", info.precision},
                              {"entry", id},
                              {"codec", cache::ToString(codec)},
                              {"tokens", saved.tokens},
                              {"prefill_ms", saved.prefill_ms},
                              {"save_ms", saved.save_ms},
                              {"bytes", saved.put.bytes_written},
                              {"new_blocks", saved.put.blocks_written},
                              {"shared_blocks", saved.put.blocks_shared}});
      WriteRun();
    }
  }

  // Whether the run has recorded already what this entry cost.
  bool Filled(const std::string& id, cache::Codec codec) const {
    const model::ArchiveInfo& info = generator_->info();
    return std::any_of(before_.fill.begin(), before_.fill.end(), [&](const auto& fill) {
      return fill.entry == id && fill.codec.value_or("fp32") == cache::ToString(codec) &&
             fill.model == info.name && fill.precision == info.precision;
    });
  }

  // Law 3's one baseline: the schedule, or the best chunking without it where that is faster by
  // more than 2 %. As the run was begun, or else by a calibration of its own.
  void ChooseBaseline() {
    const model::ArchiveInfo& info = generator_->info();
    std::optional<std::string> encoder;
    if (generator_->encoder() != nullptr) encoder = generator_->encoder()->info().fingerprint;
    for (const ModelInfo& model : before_.models) {
      if (model.name != info.name || model.precision != info.precision) continue;
      if (model.encoder_fingerprint != encoder) {
        throw Incompatible(folder_.path().string() +
                           " was begun with another encoder; start a new run");
      }
      if (model.fingerprint != info.fingerprint) {
        throw Incompatible(folder_.path().string() + " was begun with another archive of " +
                           info.name + "; start a new run");
      }
      free_ = model.baseline_schedule == "free";
      free_piece_ = static_cast<int>(model.free_chunk_tokens.value_or(config_.block_tokens));
      return;
    }
    const Json baseline = Calibrate();
    run_["models"].push_back(DescribeModel(baseline));
    WriteRun();
  }

  double TtftMs(std::size_t prompt, int free_piece) {
    engine::Request request = MakeRequest(prompt, {}, 0);
    request.max_new_tokens = 1;
    request.free_piece_tokens = free_piece;
    return generator_->Generate(request).timings.ttft_ms;
  }

  // Chooses the free pieces' length on the longest prompt, then times schedule and free pieces, in
  // turn, on three prompts of ordinary lengths. No comparison uses these times.
  Json Calibrate() {
    constexpr int kChunkRounds = 2, kRounds = 5;
    std::vector<std::size_t> by_length(prompts_.test.size());
    std::iota(by_length.begin(), by_length.end(), std::size_t{0});
    const auto length = [&](std::size_t i) { return prompts_.test[i].tokens.size(); };
    std::stable_sort(by_length.begin(), by_length.end(),
                     [&](auto a, auto b) { return length(a) < length(b); });
    const int longest = static_cast<int>(length(by_length.back()));
    std::map<int, double> chunks;
    for (int round = 0; round < kChunkRounds; ++round) {
      for (const int piece :
           {config_.block_tokens, 2 * config_.block_tokens, 4 * config_.block_tokens, longest}) {
        if (piece > longest) continue;
        Progress("measuring pieces of " + std::to_string(piece) + " tokens");
        const double ms = TtftMs(by_length.back(), piece);
        const auto [at, fresh] = chunks.emplace(piece, ms);
        if (!fresh) at->second = std::min(at->second, ms);
      }
    }
    free_piece_ = std::min_element(chunks.begin(), chunks.end(), [](auto& a, auto& b) {
                    return a.second < b.second;
                  })->first;

    std::vector<double> block_ms(kRounds), free_ms(kRounds);
    for (int round = 0; round < kRounds; ++round) {
      Progress("choosing the baseline");
      for (const std::size_t quarter : {1U, 2U, 3U}) {
        const std::size_t prompt = by_length[(by_length.size() - 1) * quarter / 4];
        for (const bool free : {round % 2 == 0, round % 2 != 0}) {
          const auto at = static_cast<std::size_t>(round);
          (free ? free_ms : block_ms)[at] += TtftMs(prompt, free ? free_piece_ : 0);
        }
      }
    }
    free_ = Median(free_ms).value() < 0.98 * Median(block_ms).value();
    return {{"schedule", free_ ? "free" : "block"},
            {"free_chunk_tokens", free_piece_},
            {"block_ms", block_ms},
            {"free_ms", free_ms}};
  }

  Json DescribeModel(const Json& baseline) {
    const model::ArchiveInfo& info = generator_->info();
    const model::Probe& probe = generator_->probe();
    const model::Encoder* const encoder = generator_->encoder();
    Json keys = Json::object(), stored = Json::object();
    for (const cache::Codec codec : config_.codecs) {
      const cache::CacheKey key = generator_->cache_key(codec);
      keys[cache::ToString(codec)] = Json::parse(key.ToJson());
      stored[cache::ToString(codec)] = cache::StoredBytes(codec, key.shape, 1);
    }
    return {
        {"name", info.name},
        {"fingerprint", info.fingerprint},
        {"precision", info.precision},
        {"device", generator_->language_model().device_description()},
        {"random_weights", info.random_weights},
        {"probe", {{"exact", probe.exact}, {"cuts", probe.cuts}, {"first_bad", probe.first_bad}}},
        {"kv_bytes_per_token", generator_->kv_bytes_per_token()},
        {"stored_bytes_per_token", stored},
        {"cache_keys", keys},
        {"encoder_fingerprint",
         encoder == nullptr ? Json(nullptr) : Json(encoder->info().fingerprint)},
        {"baseline", baseline}};
  }

  engine::Request MakeRequest(std::size_t prompt, const Variant& variant, int round) const {
    engine::Request request;
    request.text = prompts_.test[prompt].text;
    request.tokens = prompts_.test[prompt].tokens;
    request.arm = variant.arm;
    request.reuse = variant.reuse;
    if (variant.arm == engine::Arm::kRecycled) request.view = &views_.at(variant.reuse.codec);
    const bool all = !config_.long_prompts;
    request.max_new_tokens =
        variant.goes_on || all ? prompts_.limits[prompt] : config_.marks.front();
    request.sampling = config_.sampling;
    request.sampling.seed += static_cast<std::uint64_t>(round);
    request.stop_at_eos = config_.stop_at_eos;
    request.free_piece_tokens = variant.free ? free_piece_ : 0;
    request.cold = config_.cold;
    request.keep_logits = true;
    return request;
  }

  std::vector<std::size_t> ShuffledPrompts(std::mt19937_64* random) const {
    std::vector<std::size_t> order(prompts_.test.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    Shuffle(&order, random);
    return order;
  }

  void WarmUp() {
    std::mt19937_64 random(config_.sampling.seed + 1);
    std::vector<std::size_t> order = ShuffledPrompts(&random);
    order.resize(std::min(order.size(), static_cast<std::size_t>(config_.warmups)));
    for (const std::size_t prompt : order) {
      for (const Variant& variant : Variants(config_, free_)) {
        Progress("warming up");
        engine::Request request = MakeRequest(prompt, variant, 0);
        request.max_new_tokens = std::min(request.max_new_tokens, 2);
        (void)generator_->Generate(request);
      }
    }
  }

  void RunRound(int round) {
    std::mt19937_64 random(config_.sampling.seed * 1000003 + static_cast<std::uint64_t>(round));
    if (Samples()) references_.clear();  // each repetition has a seed of its own
    for (const std::size_t prompt : ShuffledPrompts(&random)) {
      std::vector<Variant> variants = Variants(config_, free_);
      Shuffle(&variants, &random);
      for (const Variant& variant : variants) {
        const Cell cell = NewCell(prompt, round, variant);
        if (!finished_.contains(Identity(cell))) RunCell(prompt, round, variant, cell);
      }
    }
  }

  bool Samples() const { return config_.sampling.temperature > 0; }

  // The variant's part of a new cell's identity.
  static void Describe(const Variant& variant, Cell* cell) {
    cell->arm = engine::ToString(variant.arm);
    cell->schedule = variant.free ? "free" : "block";
    cell->control = variant.control;
    cell->policy = engine::ToString(variant.reuse.policy);
    if (variant.arm == engine::Arm::kBaseline) cell->policy = "off";
    if (cell->policy == "off") return;
    cell->match = cache::ToString(variant.reuse.match);
    cell->codec = cache::ToString(variant.reuse.codec);
    if (variant.reuse.policy.by_similarity) {
      cell->candidates = variant.reuse.candidates;
    }
  }

  // What is known of a cell before it is measured.
  Cell NewCell(std::size_t prompt, int round, const Variant& variant) const {
    const TestPrompt& test = config_.test_prompts[prompt];
    Cell cell;
    cell.model = generator_->info().name;
    cell.precision = generator_->info().precision;
    cell.workload = test.group;
    cell.prompt_id = test.id;
    cell.repetition = round;
    Describe(variant, &cell);
    if (Samples()) cell.seed = config_.sampling.seed + static_cast<std::uint64_t>(round);
    if (const auto parent = prompts_.parents[prompt]) {
      cell.cached_parent = config_.cache_prompts[*parent].id;
    }
    return cell;
  }

  // What a prompt's cells are compared with: a scheduled baseline that is itself not measured. Kept
  // for the rounds to come, unless all of them would take too much memory.
  const engine::Generation& Reference(std::size_t prompt, int round) {
    constexpr std::uint64_t kMemory = std::uint64_t{1} << 30;
    const auto found = references_.find(prompt);
    if (found != references_.end()) return found->second;
    const auto row = static_cast<std::uint64_t>(generator_->info().vocab) * sizeof(float);
    std::uint64_t bytes = 0;
    for (const int limit : prompts_.limits) bytes += static_cast<std::uint64_t>(limit) * row;
    if (bytes > kMemory) references_.clear();
    return references_[prompt] =
               generator_->Generate(MakeRequest(prompt, {.goes_on = true}, round));
  }

  void RunCell(std::size_t prompt, int round, const Variant& variant, Cell cell) {
    Progress(cell.prompt_id);
    const engine::Generation& reference = Reference(prompt, round);
    const engine::Request request = MakeRequest(prompt, variant, round);
    const LoadMeter meter;
    engine::Generation generation = generator_->Generate(request);
    const LoadMeter::Load load = meter.Measure();
    cell.wall_ms = load.wall_ms;
    cell.other_cpu_ms = load.other_cpu_ms;
    cell.steal_ms = load.steal_ms;
    // Free pieces round as the schedule does only where the probe holds; elsewhere they promise
    // nothing and are not compared.
    if (variant.free && !generator_->probe().exact) {
      generation.exact_claimed = false;
    } else {
      cell.fidelity =
          MeasureFidelity(*generator_, request, reference, generation, request.max_new_tokens > 1);
    }
    FillCell(prompt, request, generation, &cell);
    if (cell.exact_claimed && cell.fidelity && !cell.fidelity->exact) {
      spdlog::error("{} {} {}: claimed exact, but it is not: max |logit difference| {}",
                    cell.prompt_id, cell.policy, cell.match.value_or(""),
                    cell.fidelity->max_abs_logit_diff.value_or(0));
    }
    folder_.Append(cell);
    if (done_++ == 0 && options_.first_cell) options_.first_cell();
  }

  void FillCell(std::size_t prompt, const engine::Request& request,
                const engine::Generation& generation, Cell* cell) {
    const engine::Timings& timings = generation.timings;
    cell->outcome = engine::ToString(generation.outcome);
    if (generation.limited_by) cell->limited_by = cache::ToString(*generation.limited_by);
    cell->exact_claimed = generation.exact_claimed;
    cell->prompt_tokens = static_cast<std::int64_t>(request.tokens.size());
    cell->truncated_tokens = prompts_.test[prompt].truncated_tokens;
    cell->reuse_depth = generation.reuse_depth;
    if (cell->recycled()) {
      cell->available_depth =
          request.view
              ->WalkPrefix(
                  {.tokens = request.tokens, .text = request.text, .match = cache::Match::kToken})
              .depth;
    }
    if (cell->recycled() && !cell->is_null()) {
      // Null where the phase did not run.
      if (request.reuse.policy.by_similarity) cell->embed_ms = timings.embed_ms;
      cell->lookup_ms = timings.lookup_ms;
      if (timings.restore_ms > 0) cell->restore_ms = timings.restore_ms;
      cell->restored_bytes = static_cast<std::int64_t>(generation.restored_bytes);
    }
    cell->similarity = generation.similarity;
    if (generation.entry) {
      const auto name = entry_names_.find(*generation.entry);
      cell->entry = name != entry_names_.end() ? name->second : Hex(*generation.entry);
    }
    if (generation.reuse_depth > 0) cell->tier = "disk";
    if (generation.resident_fraction) {
      cell->page_cache = *generation.resident_fraction > 0.5 ? "warm" : "cold";
    }
    cell->prefill_ms = timings.prefill_ms;
    cell->ttft_ms = timings.ttft_ms;
    cell->decode_ms = timings.decode_ms;
    cell->total_ms = timings.total_ms;
    cell->totals_ms.emplace();
    for (const int mark : config_.marks) {
      const auto count = static_cast<std::size_t>(mark);
      if (generation.token_ms.size() >= count) {
        (*cell->totals_ms)[mark] = generation.token_ms[count - 1];
      }
    }
    cell->new_tokens = static_cast<std::int64_t>(generation.tokens.size());
    cell->tokens = generation.tokens;
    cell->text = generator_->Text(generation.tokens);
  }

  const Config& config_;
  const SweepOptions& options_;
  const RunFolder folder_;
  Json run_;
  struct Run before_;  // what was left to resume
  std::set<std::string> finished_;
  std::int64_t done_ = 0, total_ = 0;

  // Of the model that is running.
  engine::Generator* generator_ = nullptr;
  std::map<cache::Codec, cache::View> views_;
  Prompts prompts_;
  std::map<std::size_t, engine::Generation> references_;
  std::map<Digest, std::string> entry_names_;
  bool free_ = false;  // the baseline's schedule
  int free_piece_ = 0;
};

}  // namespace

std::int64_t CellsPerModel(const Config& config) {
  return static_cast<std::int64_t>(config.test_prompts.size()) * config.repetitions *
         static_cast<std::int64_t>(Variants(config, false).size());
}

void CheckArchives(const Config& config) {
  (void)model::DescribeDevice(config.device);  // throws where it is absent
  std::map<std::string, std::string> paths;    // by what cells call a model
  for (const ModelChoice& choice : config.models) {
    const model::ArchiveInfo info = model::ReadArchiveInfo(choice.path, "language_model");
    if (!choice.precision.empty() && choice.precision != info.precision) {
      throw Incompatible(choice.path + " is of precision " + info.precision +
                         ", the config lists it as " + choice.precision);
    }
    const std::string context =
        "the context of " + choice.path + " is " + std::to_string(info.context_tokens) + " tokens";
    if (config.marks.back() >= info.context_tokens) {
      throw InvalidInput("max_new_tokens: found " + std::to_string(config.marks.back()) + ", but " +
                         context);
    }
    if (config.block_tokens > info.context_tokens) {
      throw InvalidInput("block_tokens: found " + std::to_string(config.block_tokens) + ", but " +
                         context);
    }
    if (config.chat && info.metadata.at("template").is_null()) {
      throw InvalidInput("template: found chat, but " + choice.path + " has no chat template");
    }
    const text::Tokenizer tokenizer(info.metadata.at("tokenizer"), info.tokenizer_model);
    std::optional<text::ChatTemplate> chat_template;
    if (config.chat) chat_template.emplace(info.metadata.at("template"));
    (void)PreparePrompts(config, {info, tokenizer, chat_template});
    const auto [before, fresh] =
        paths.emplace(info.name + " (" + info.precision + ")", choice.path);
    if (!fresh) {
      throw InvalidInput("models: " + before->second + " and " + choice.path + " are both " +
                         before->first + "; results could not be told apart");
    }
  }
  if (!config.encoder.empty()) (void)model::ReadArchiveInfo(config.encoder, "encoder");
}

void RunSweep(const Config& config, const SweepOptions& options) { Sweep(config, options).Run(); }

}  // namespace kvr::experiment

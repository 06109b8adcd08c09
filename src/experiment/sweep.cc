#include "kvr/experiment/sweep.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
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
#include "kvr/model/runtime.h"

namespace kvr::experiment {

namespace fs = std::filesystem;

namespace {

// What one cell runs, apart from prompt and repetition.
struct Variant {
  engine::Arm arm = engine::Arm::kBaseline;
  bool free = false;
  bool control = false;
  engine::Reuse reuse;
};

std::vector<Variant> Variants(const Config& config, bool first_round) {
  std::vector<Variant> variants = {{}, {.free = true}};
  if (first_round) variants.push_back({.control = true});
  for (const engine::Reuse& reuse : config.reuses) {
    variants.push_back({.arm = engine::Arm::kRecycled, .reuse = reuse});
  }
  return variants;
}

// Tells a cell from all others of its run.
std::string CellKey(const Cell& cell) {
  return cell.model + "\n" + cell.precision + "\n" + cell.prompt_id + "\n" +
         std::to_string(cell.repetition) + "\n" + cell.arm + "\n" + cell.schedule + "\n" +
         (cell.control ? "control" : "") + "\n" + cell.policy + "\n" + cell.match.value_or("") +
         "\n" + cell.codec.value_or("");
}

// Fisher-Yates by our own draws: std::shuffle differs between standard libraries.
template <typename T>
void Shuffle(std::vector<T>* items, std::mt19937_64* random) {
  for (std::size_t i = items->size(); i > 1; --i) {
    std::swap((*items)[i - 1], (*items)[(*random)() % i]);
  }
}

// cells.jsonl, open for appending. A line is written by one call, so that a killed process leaves
// at most one torn line, the last.
class CellFile {
 public:
  explicit CellFile(const fs::path& path)
      : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (fd_.get() < 0) throw IoError("cannot open " + path.string(), errno);
  }

  void Append(const Cell& cell) {
    const std::string line = DumpLine(ToJson(cell)) + "\n";
    std::size_t written = 0;
    while (written < line.size()) {
      const ssize_t put = ::write(fd_.get(), line.data() + written, line.size() - written);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) throw IoError("cannot write " + path_.string(), errno);
      written += static_cast<std::size_t>(put);
    }
  }

 private:
  fs::path path_;
  UniqueFd fd_;
};

class Sweep {
 public:
  Sweep(const Config& config, const SweepOptions& options) : config_(config), options_(options) {}

  void Run() {
    model::SetUpRuntime(config_.threads);
    Open();
    if (done_ < total_) {
      for (const ModelChoice& choice : config_.models) RunModel(choice);
    }
    if (!options_.keep_cache) fs::remove_all(CacheDir());
    run_["finished"] = UtcTimestamp(UnixSeconds());
    WriteRun();
  }

 private:
  fs::path CacheDir() const { return options_.folder / "cache"; }

  void Progress(const std::string& what) {
    ThrowIfInterrupted();
    if (options_.progress) options_.progress(what, done_, total_);
  }

  void WriteRun() { WriteAndRename(options_.folder / "run.json", run_.dump(1) + "\n"); }

  // Creates the run folder, or takes up one that was left.
  void Open() {
    total_ = CellsPerModel(config_) * static_cast<int>(config_.models.size());
    CreateFolders(options_.folder);
    const fs::path run_file = options_.folder / "run.json", cells = options_.folder / "cells.jsonl";
    if (fs::exists(run_file)) {
      if (!options_.resume) {
        throw InvalidInput(options_.folder.string() +
                           " holds a run already; --resume goes on with it");
      }
      run_ = ReadJsonFile(run_file);
      if (run_.at("config") != config_.json) {
        throw InvalidInput(options_.folder.string() +
                           " was begun with another config; it can't be resumed with this one");
      }
      if (run_.value("prompts_sha256", "") != PromptsDigest()) {
        throw InvalidInput(
            options_.folder.string() +
            " was begun with other prompts: the files have changed; start a new run");
      }
      const Json now = DescribeEnvironment();
      for (const char* field :
           {"cpu_model", "instruction_set", "threads", "libtorch_version", "commit"}) {
        if (run_.at("environment").at(field) != now.at(field)) {
          throw Incompatible(options_.folder.string() + " was begun with " + field + " " +
                             DumpLine(run_["environment"][field]) + ", this is " +
                             DumpLine(now[field]) + "; start a new run");
        }
      }
      if (fs::exists(cells)) {
        DropTornLine(cells);
        const struct Run before = ReadRun(options_.folder);
        for (const Cell& cell : before.cells) finished_.insert(CellKey(cell));
        done_ = static_cast<int>(finished_.size());
      }
      run_["finished"] = nullptr;
    } else {
      run_ = {{"schema", kResultsSchema},
              {"name", config_.name},
              {"config", config_.json},
              {"prompts_sha256", PromptsDigest()},
              {"environment", DescribeEnvironment()},
              {"models", Json::array()},
              {"fill", Json::array()},
              {"started", UtcTimestamp(UnixSeconds())},
              {"finished", nullptr}};
    }
    WriteRun();
    file_ = std::make_unique<CellFile>(cells);
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

  // A process killed while it wrote leaves a line without an end.
  static void DropTornLine(const fs::path& path) {
    const std::string contents = ReadFile(path);
    const std::size_t end = contents.rfind('\n');
    const std::size_t whole = end == std::string::npos ? 0 : end + 1;
    if (whole == contents.size()) return;
    spdlog::warn("{}: the last line was cut off and is left out", path.string());
    if (::truncate(path.c_str(), static_cast<off_t>(whole)) != 0) {
      throw IoError("cannot truncate " + path.string(), errno);
    }
  }

  void RunModel(const ModelChoice& choice) {
    Progress("loading " + choice.path);
    engine::Generator generator(
        {.model = choice.path,
         .encoder = config_.encoder,
         .language_model = {.block_tokens = config_.block_tokens, .device = config_.device}});
    const model::ArchiveInfo& info = generator.info();
    generator_ = &generator;

    Progress("checking prompts");
    prompts_.clear();
    references_.clear();
    for (const TestPrompt& test : config_.test_prompts) {
      prompts_.push_back(engine::PreparePrompt(generator, test.text, config_.chat,
                                               config_.truncate_left, config_.max_new_tokens));
      const std::size_t length =
          prompts_.back().tokens.size() + static_cast<std::size_t>(config_.max_new_tokens);
      if (length > static_cast<std::size_t>(info.context_tokens)) {
        throw InvalidInput(
            "test prompt " + test.id + ": its " + std::to_string(prompts_.back().tokens.size()) +
            " tokens and " + std::to_string(config_.max_new_tokens) +
            " to generate pass the context of " + std::to_string(info.context_tokens) +
            " tokens of " + info.name + "; \"truncate\": \"left\" cuts the prompt");
      }
    }

    Progress("probing " + info.name);
    const model::Probe& probe = generator.probe();
    for (const cache::Codec codec : config_.codecs) {
      generator.OpenStore(CacheDir(), {}, codec);
      Fill(codec);
      views_.emplace(codec, generator.store(codec)->MakeView());
    }
    CalibrateFreePiece();
    RecordModel(probe);
    WarmUp();
    for (int round = 0; round < config_.repetitions; ++round) RunRound(round);
    generator_ = nullptr;
    views_.clear();
  }

  // The cached prompts, each computed from nothing so that its cost is its own.
  void Fill(cache::Codec codec) {
    const model::ArchiveInfo& info = generator_->info();
    for (const CachedPrompt& prompt : config_.cache_prompts) {
      Progress("caching " + prompt.id + " as " + cache::ToString(codec));
      generator_->ForgetBuffer();
      const engine::Prompt prepared =
          engine::PreparePrompt(*generator_, prompt.text, config_.chat, false, 1);
      const engine::SaveResult saved = generator_->Save(prepared.text, codec);
      entry_names_[saved.put.entry] = prompt.id;
      if (!saved.put.created || Filled(prompt.id, codec))
        continue;  // resumed, or the same text twice
      run_["fill"].push_back({{"model", info.name},
                              {"precision", info.precision},
                              {"entry", prompt.id},
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
    return std::any_of(run_["fill"].begin(), run_["fill"].end(), [&](const Json& fill) {
      return fill["entry"] == id && fill.value("codec", "fp32") == cache::ToString(codec) &&
             fill["model"] == info.name && fill["precision"] == info.precision;
    });
  }

  // The best chunking without the schedule, by measurement on as many tokens as the longest prompt
  // has: law 3's other baseline.
  void CalibrateFreePiece() {
    const int block = config_.block_tokens;
    std::size_t longest = 0;
    for (const engine::Prompt& prompt : prompts_) longest = std::max(longest, prompt.tokens.size());
    const int length = std::min(static_cast<int>(longest), generator_->info().context_tokens - 1);
    engine::Request request;
    std::mt19937_64 random(config_.sampling.seed);
    for (int i = 0; i < length; ++i) {
      request.tokens.push_back(
          static_cast<Token>(random() % static_cast<std::uint64_t>(generator_->info().vocab)));
    }
    request.max_new_tokens = 1;
    double best_ms = 0;
    for (const int piece : {block, 2 * block, 4 * block, length}) {
      if (piece > length) continue;
      Progress("measuring pieces of " + std::to_string(piece) + " tokens");
      request.free_piece_tokens = piece;
      double ms = 0;
      for (int i = 0; i < 2; ++i) {
        const double once = generator_->Generate(request).timings.ttft_ms;
        ms = i == 0 ? once : std::min(ms, once);
      }
      if (best_ms == 0 || ms < best_ms) {
        best_ms = ms;
        free_piece_ = piece;
      }
    }
  }

  void RecordModel(const model::Probe& probe) {
    const model::ArchiveInfo& info = generator_->info();
    Json keys = Json::object(), stored = Json::object();
    for (const cache::Codec codec : config_.codecs) {
      const cache::CacheKey key = generator_->cache_key(codec);
      keys[cache::ToString(codec)] = Json::parse(key.ToJson());
      stored[cache::ToString(codec)] = cache::StoredBytes(codec, key.shape, 1);
    }
    Json entry = {
        {"name", info.name},
        {"fingerprint", info.fingerprint},
        {"precision", info.precision},
        {"device", generator_->language_model().device_description()},
        {"random_weights", info.random_weights},
        {"probe", {{"exact", probe.exact}, {"cuts", probe.cuts}, {"first_bad", probe.first_bad}}},
        {"kv_bytes_per_token", generator_->kv_bytes_per_token()},
        {"stored_bytes_per_token", stored},
        {"cache_keys", keys},
        {"encoder_fingerprint", generator_->encoder() == nullptr
                                    ? Json(nullptr)
                                    : Json(generator_->encoder()->info().fingerprint)},
        {"free_chunk_tokens", free_piece_}};
    for (Json& model : run_["models"]) {
      if (model["name"] != info.name || model["precision"] != info.precision) continue;
      if (model["encoder_fingerprint"] != entry["encoder_fingerprint"]) {
        throw Incompatible(options_.folder.string() +
                           " was begun with another encoder; start a new run");
      }
      if (model["fingerprint"] != info.fingerprint) {
        throw Incompatible(options_.folder.string() + " was begun with another archive of " +
                           info.name + "; start a new run");
      }
      free_piece_ = model["free_chunk_tokens"];  // as the run was begun
      return;
    }
    run_["models"].push_back(std::move(entry));
    WriteRun();
  }

  engine::Request MakeRequest(std::size_t prompt, const Variant& variant, bool full) const {
    engine::Request request;
    request.text = prompts_[prompt].text;
    request.tokens = prompts_[prompt].tokens;
    request.arm = variant.arm;
    request.reuse = variant.reuse;
    if (variant.arm == engine::Arm::kRecycled) request.view = &views_.at(variant.reuse.codec);
    request.max_new_tokens = full ? config_.max_new_tokens : 1;
    request.sampling = config_.sampling;
    request.stop_at_eos = config_.stop_at_eos;
    request.free_piece_tokens = variant.free ? free_piece_ : 0;
    request.cold = config_.cold;
    request.keep_logits = true;
    return request;
  }

  std::vector<std::size_t> ShuffledPrompts(std::mt19937_64* random) const {
    std::vector<std::size_t> order(prompts_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    Shuffle(&order, random);
    return order;
  }

  void WarmUp() {
    std::mt19937_64 random(config_.sampling.seed + 1);
    std::vector<std::size_t> order = ShuffledPrompts(&random);
    order.resize(std::min(order.size(), static_cast<std::size_t>(config_.warmups)));
    for (const std::size_t prompt : order) {
      for (const Variant& variant : Variants(config_, false)) {
        Progress("warming up");
        (void)generator_->Generate(MakeRequest(prompt, variant, false));
      }
    }
  }

  void RunRound(int round) {
    std::mt19937_64 random(config_.sampling.seed * 1000003 + static_cast<std::uint64_t>(round));
    for (const std::size_t prompt : ShuffledPrompts(&random)) {
      std::vector<Variant> variants = Variants(config_, round == 0);
      Shuffle(&variants, &random);
      std::optional<engine::Generation> reference;
      for (const Variant& variant : variants) {
        const Cell cell = NewCell(prompt, round, variant);
        if (finished_.contains(CellKey(cell))) continue;
        if (!reference) reference = Reference(prompt, round == 0);
        RunCell(prompt, variant, *reference, cell);
      }
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
    cell.arm = engine::ToString(variant.arm);
    cell.schedule = variant.free ? "free" : "block";
    cell.control = variant.control;
    cell.policy = "off";
    if (variant.arm == engine::Arm::kRecycled) {
      cell.policy = engine::ToString(variant.reuse.policy);
      cell.match = cache::ToString(variant.reuse.match);
      cell.codec = cache::ToString(variant.reuse.codec);
    }
    cell.full = round == 0 && !variant.free;
    return cell;
  }

  // The baseline that a prompt's cells are compared with: run before them and not measured, so that
  // no arm has a fixed place in the order. Later rounds stop at the first token, and so need only
  // that one and its logits, which are kept.
  engine::Generation Reference(std::size_t prompt, bool full) {
    engine::Generation& first = references_[prompt];
    if (!full && !first.tokens.empty()) return first;
    Progress(config_.test_prompts[prompt].id);
    engine::Generation reference = generator_->Generate(MakeRequest(prompt, {}, full));
    first.tokens = {reference.tokens[0]};
    first.logits = {reference.logits[0]};
    return reference;
  }

  void RunCell(std::size_t prompt, const Variant& variant, const engine::Generation& reference,
               Cell cell) {
    Progress(cell.prompt_id);
    const engine::Request request = MakeRequest(prompt, variant, cell.full);
    const engine::Generation generation = generator_->Generate(request);
    // Free pieces may round otherwise; what they compute is not compared.
    if (!variant.free) {
      cell.fidelity = MeasureFidelity(*generator_, request, reference, generation, cell.full);
    }
    FillCell(prompt, request, generation, &cell);
    if (cell.exact_claimed && cell.fidelity && !cell.fidelity->exact) {
      spdlog::error("{} {} {}: claimed exact, but it is not: max |logit difference| {}",
                    cell.prompt_id, cell.policy, cell.match.value_or(""),
                    cell.fidelity->max_abs_logit_diff.value_or(0));
    }
    file_->Append(cell);
    ++done_;
  }

  void FillCell(std::size_t prompt, const engine::Request& request,
                const engine::Generation& generation, Cell* cell) {
    const engine::Timings& timings = generation.timings;
    cell->outcome = engine::ToString(generation.outcome);
    if (generation.limited_by) cell->limited_by = cache::ToString(*generation.limited_by);
    cell->exact_claimed = generation.exact_claimed;
    cell->prompt_tokens = static_cast<std::int64_t>(prompts_[prompt].tokens.size());
    cell->truncated_tokens = prompts_[prompt].truncated_tokens;
    cell->reuse_depth = generation.reuse_depth;
    if (cell->recycled()) {
      cell->available_depth =
          request.view
              ->WalkPrefix(
                  {.tokens = request.tokens, .text = request.text, .match = cache::Match::kToken})
              .depth;
      // Null where the phase did not run.
      if (request.reuse.policy == engine::Policy::kEmbedding) cell->embed_ms = timings.embed_ms;
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
    if (cell->full) {
      cell->decode_ms = timings.decode_ms;
      cell->total_ms = timings.total_ms;
    }
    cell->new_tokens = static_cast<std::int64_t>(generation.tokens.size());
    cell->tokens = generation.tokens;
    cell->text = generator_->Text(generation.tokens);
  }

  const Config& config_;
  const SweepOptions& options_;
  Json run_;
  std::unique_ptr<CellFile> file_;
  std::set<std::string> finished_;
  int done_ = 0, total_ = 0;

  // Of the model that is running.
  engine::Generator* generator_ = nullptr;
  std::map<cache::Codec, cache::View> views_;
  std::vector<engine::Prompt> prompts_;
  std::map<std::size_t, engine::Generation> references_;
  std::map<Digest, std::string> entry_names_;
  int free_piece_ = 0;
};

}  // namespace

int CellsPerModel(const Config& config) {
  const std::size_t per_prompt =
      Variants(config, true).size() +
      static_cast<std::size_t>(config.repetitions - 1) * Variants(config, false).size();
  return static_cast<int>(config.test_prompts.size() * per_prompt);
}

void CheckArchives(const Config& config) {
  std::map<std::string, std::string> paths;  // by what cells call a model
  for (const ModelChoice& choice : config.models) {
    const model::ArchiveInfo info = model::ReadArchiveInfo(choice.path, "language_model");
    if (!choice.precision.empty() && choice.precision != info.precision) {
      throw Incompatible(choice.path + " is of precision " + info.precision +
                         ", the config lists it as " + choice.precision);
    }
    if (config.max_new_tokens >= info.context_tokens) {
      throw InvalidInput("max_new_tokens: found " + std::to_string(config.max_new_tokens) +
                         ", but the context of " + choice.path + " is " +
                         std::to_string(info.context_tokens) + " tokens");
    }
    if (config.chat && info.metadata.at("template").is_null()) {
      throw InvalidInput("template: found chat, but " + choice.path + " has no chat template");
    }
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

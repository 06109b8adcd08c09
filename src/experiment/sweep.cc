#include "kvr/experiment/sweep.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/experiment/calibration.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/stopping.h"
#include "kvr/experiment/trace_workload.h"
#include "kvr/record/run_folder.h"

namespace kvr::experiment {
namespace {

class Sweep {
 public:
  Sweep(const Config& config, const SweepOptions& options, Executor& executor)
      : config_(config),
        options_(options),
        executor_(executor),
        folder_(options.folder),
        is_mine_(PromptsOf(config, options.shard.value_or(Shard()))) {
    if (options.shard) run_.shard = experiment::Describe(config, *options.shard);
  }
  // Also when it is broken off: the caches are closed before the folder's lock is given back.
  ~Sweep() { executor_.Unload(); }
  Sweep(const Sweep&) = delete;
  Sweep& operator=(const Sweep&) = delete;

  void Run() {
    Open();
    if (done_ < total_) {
      for (const ModelChoice& choice : config_.models) RunModel(choice);
    }
    if (!run_.cache_kept) folder_.RemoveCache(run_.cache_subfolders);
    if (!run_.finished) run_.finished = UtcTimestamp(UnixSeconds());
    folder_.Write(run_);
  }

 private:
  void Tell(const std::string& what) {
    ThrowIfInterrupted();
    if (options_.progress) options_.progress(what, done_, total_);
  }

  // Begins a run in the folder, or takes up the one that was left there.
  void Open() {
    if (options_.shard && config_.until_width) {
      throw InvalidInput(
          "a shard can't tell when the whole run's repetitions are enough: give "
          "\"repetitions\" as a number");
    }
    run_.name = config_.name;
    run_.config = config_.json;
    run_.config_in_full = config_.in_full;
    for (const TestPrompt& prompt : config_.test_prompts) run_.prompts.push_back(prompt.id);
    run_.prompts_sha256 = PromptsDigest(config_);
    run_.environment = executor_.Environment();
    run_.started = UtcTimestamp(UnixSeconds());
    if (options_.resume && folder_.HoldsRun()) {
      TakeUp();
    } else {
      record::CheckFree(folder_.path());
    }
    CountTotal();
    if (done_ < total_) run_.finished.reset();
    // Once kept, it stays kept.
    if (options_.keep_cache) run_.cache_kept = true;
    folder_.Write(run_);
  }

  // Goes on with what was left, which must be of this config, machine and program.
  void TakeUp() {
    folder_.DropTornLines();
    record::Run before = record::ReadRun(folder_.path());
    record::CheckResumes(before, run_, folder_.path().string());
    for (const std::string& warning : before.warnings) spdlog::warn("{}", warning);
    for (const record::ModelInfo& model : before.models) {
      if (options_.baseline && !IsGiven(model)) {
        throw InvalidInput(folder_.path().string() + " was begun with another baseline, " +
                           model.baseline_schedule + "; start a new run");
      }
    }
    for (const record::Cell& cell : before.cells) {
      if (!OfThisConfig(cell, before.models)) ++before.stray_cells;
      finished_.insert(Identity(cell));
    }
    if (before.stray_cells > 0) {
      throw Corrupt(fmt::format("{}: {} cells are none that this config makes; start a new run",
                                folder_.cells().string(), before.stray_cells));
    }
    done_ = static_cast<std::int64_t>(finished_.size());
    resumed_ = std::exchange(before.cells, {});
    run_ = std::move(before);
  }

  // At most: models that are not done may need fewer rounds.
  void CountTotal() {
    const std::int64_t round = CellsPerModel(config_, is_mine_) / config_.repetitions;
    const auto models = static_cast<std::int64_t>(config_.models.size());
    total_ = models * round * config_.repetitions;
    for (const record::ModelInfo& model : run_.models) {
      total_ -= (config_.repetitions - RoundsOf(model)) * round;
    }
  }

  // Those that ran, once that is known, or else the most.
  int RoundsOf(const record::ModelInfo& model) const {
    return static_cast<int>(model.repetitions.rounds.value_or(config_.repetitions));
  }

  bool OfThisConfig(const record::Cell& cell, const std::vector<record::ModelInfo>& models) const {
    const auto model =
        std::find_if(models.begin(), models.end(), [&](const record::ModelInfo& info) {
          return info.name == cell.model && info.precision == cell.precision;
        });
    if (model == models.end() || cell.repetition >= config_.repetitions) return false;
    if (run_.shard && std::ranges::count(run_.shard->prompts, cell.prompt_id) == 0) return false;
    const std::vector<CellPlan> plans = PlansOf(config_, model->baseline_schedule == "free");
    return std::any_of(plans.begin(), plans.end(), [&](const CellPlan& plan) {
      record::Cell made;
      made.model = cell.model;
      made.precision = cell.precision;
      made.prompt_id = cell.prompt_id;
      made.repetition = cell.repetition;
      Describe(plan, &made);
      return Identity(made) == Identity(cell);
    });
  }

  void RunModel(const ModelChoice& choice) {
    record::ModelInfo loaded =
        executor_.Load(choice, [this](const std::string& what) { Tell(what); });
    RecordTrace(loaded);
    for (const cache::Codec codec : config_.codecs) {
      OpenCache(codec);
      FillCache(loaded, codec);
      executor_.Freeze(codec);
    }
    record::ModelInfo& model = ChooseBaseline(std::move(loaded));
    const bool free = model.baseline_schedule == "free";
    const int free_tokens =
        static_cast<int>(model.free_chunk_tokens.value_or(config_.block_tokens));
    for (const Step& step : WarmUpOf(config_, free)) {
      Tell("warming up");
      executor_.WarmUp(step, free_tokens);
    }
    RunRounds(free, free_tokens, &model);
    executor_.Unload();
  }

  // What the whole trace says of this model, in place of what is there of it.
  void RecordTrace(const record::ModelInfo& model) {
    if (config_.trace == nullptr) return;
    std::erase_if(run_.trace, [&](const record::TraceRow& row) {
      return row.model == model.name && row.precision == model.precision;
    });
    for (record::TraceRow& row : TraceRowsOf(*config_.trace, model)) {
      run_.trace.push_back(std::move(row));
    }
    folder_.Write(run_.trace);
  }

  // A run that is taken up decides by the same cells, and so runs the same rounds.
  void RunRounds(bool free, int free_tokens, record::ModelInfo* model) {
    Stopping stopping(config_, *model);
    for (const record::Cell& cell : resumed_) stopping.Add(cell);
    const int most = RoundsOf(*model);
    for (int round = 0; round < most; ++round) {
      for (const Step& step : RoundOf(config_, free, round)) {
        if (!is_mine_[step.prompt]) continue;
        record::Cell cell = NewCell(*model, step, round);
        if (finished_.contains(Identity(cell))) continue;
        RunCell(step, round, free_tokens, &cell);
        stopping.Add(cell);
      }
      const record::Repetitions now = stopping.After(round + 1);
      if (!now.stopped_by) continue;
      model->repetitions = now;
      folder_.Write(run_);
      break;
    }
    CountTotal();
  }

  // Its name is recorded before it is made, so that nothing is left that nobody removes.
  void OpenCache(cache::Codec codec) {
    const std::string name = executor_.CacheName(codec);
    std::vector<std::string>& names = run_.cache_subfolders;
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
      folder_.Write(run_);
    }
    executor_.OpenCache(folder_.cache(), codec);
  }

  void FillCache(const record::ModelInfo& model, cache::Codec codec) {
    for (std::size_t i = 0; i < config_.cache_prompts.size(); ++i) {
      const std::string& id = config_.cache_prompts[i].id;
      Tell("caching " + id + " as " + cache::ToString(codec));
      const bool recorded = std::any_of(run_.fill.begin(), run_.fill.end(), [&](const auto& fill) {
        return fill.entry == id && fill.codec.value_or("fp32") == cache::ToString(codec) &&
               fill.model == model.name && fill.precision == model.precision;
      });
      if (auto fill = executor_.Fill(i, codec, recorded)) {
        run_.fill.push_back(std::move(*fill));
        folder_.Write(run_);
      }
    }
  }

  // As the run was begun, or else as given or by a calibration of its own. Returns the run's own
  // record of the model.
  record::ModelInfo& ChooseBaseline(record::ModelInfo loaded) {
    for (record::ModelInfo& before : run_.models) {
      if (before.name != loaded.name || before.precision != loaded.precision) continue;
      if (before.encoder_fingerprint != loaded.encoder_fingerprint) {
        throw Incompatible(folder_.path().string() +
                           " was begun with another encoder; start a new run");
      }
      if (before.fingerprint != loaded.fingerprint) {
        throw Incompatible(folder_.path().string() + " was begun with another archive of " +
                           loaded.name + "; start a new run");
      }
      return before;
    }
    Baseline baseline = Calibrate(
        executor_.PromptTokens(), config_.block_tokens,
        [this](std::size_t prompt, int tokens) { return executor_.TtftMs(prompt, tokens); },
        [this](const std::string& what) { Tell(what); });
    TakeGiven(&baseline, loaded.name);
    loaded.baseline_schedule = baseline.free ? "free" : "block";
    loaded.baseline_given = Given().has_value();
    loaded.free_chunk_tokens = baseline.free_tokens;
    loaded.calibration_block_ms = std::move(baseline.block_ms);
    loaded.calibration_free_ms = std::move(baseline.free_ms);
    run_.models.push_back(std::move(loaded));
    folder_.Write(run_);
    return run_.models.back();
  }

  std::optional<BaselineChoice> Given() const {
    if (!options_.baseline && options_.shard) return BaselineChoice();
    return options_.baseline;
  }

  // Whether a recorded baseline is the given one.
  bool IsGiven(const record::ModelInfo& model) const {
    const BaselineChoice given = *Given();
    if (given.free != (model.baseline_schedule == "free")) return false;
    return !given.free || model.free_chunk_tokens == given.free_tokens;
  }

  // Puts the given baseline, if any, in the calibration's place.
  void TakeGiven(Baseline* baseline, const std::string& model) const {
    const std::optional<BaselineChoice> given = Given();
    if (!given) return;
    if (baseline->free && !given->free) {
      spdlog::warn(
          "{}: the calibration finds free chunks of {} tokens faster here than the "
          "schedule, which is the baseline{}",
          model, baseline->free_tokens,
          options_.baseline ? "" : " of shards unless --baseline gives another");
    }
    baseline->free = given->free;
    if (given->free) baseline->free_tokens = given->free_tokens;
  }

  // What is known of a cell before it is measured.
  record::Cell NewCell(const record::ModelInfo& model, const Step& step, int round) const {
    const TestPrompt& test = config_.test_prompts[step.prompt];
    record::Cell cell;
    cell.model = model.name;
    cell.precision = model.precision;
    cell.workload = test.group;
    cell.prompt_id = test.id;
    cell.repetition = round;
    Describe(step.plan, &cell);
    if (config_.sampling.temperature > 0) {
      cell.seed = config_.sampling.seed + static_cast<std::uint64_t>(round);
    }
    cell.cached_parent = executor_.ParentOf(step.prompt);
    cell.session = test.session;
    cell.turn = test.turn;
    return cell;
  }

  void RunCell(const Step& step, int round, int free_tokens, record::Cell* cell) {
    Tell(cell->prompt_id);
    executor_.Run(step, round, free_tokens, cell);
    if (cell->exact_claimed && cell->fidelity && !cell->fidelity->exact) {
      spdlog::error("{} {} {}: claimed exact, but it is not: max |logit difference| {}",
                    cell->prompt_id, cell->policy, cell->match.value_or(""),
                    cell->fidelity->max_abs_logit_diff.value_or(0));
    }
    folder_.Append({cell, 1});
    if (done_++ == 0 && options_.first_cell) options_.first_cell();
  }

  const Config& config_;
  const SweepOptions& options_;
  Executor& executor_;
  const record::RunFolder folder_;
  const std::vector<bool> is_mine_;  // test prompts
  record::Run run_;
  std::vector<record::Cell> resumed_;  // what a resumed run has
  std::set<std::string> finished_;     // cells that a resumed run has, by their identity
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace

void RunSweep(const Config& config, const SweepOptions& options) {
  RunSweep(config, options, *MakeEngineExecutor(config));
}

void RunSweep(const Config& config, const SweepOptions& options, Executor& executor) {
  Sweep(config, options, executor).Run();
}

}  // namespace kvr::experiment

#include "kvr/experiment/bench_busy.h"

#include <spdlog/fmt/fmt.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>

#include "bench_meter.h"
#include "kvr/base/clock.h"
#include "kvr/base/cores.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/model/machine.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {

namespace {

// Processes that compute until this is destroyed or the program ends.
class BusyLoops {
 public:
  explicit BusyLoops(int count) {
    const pid_t parent = ::getpid();
    while (static_cast<int>(children_.size()) < count) {
      const pid_t child = ::fork();
      if (child < 0) {
        const int reason = errno;
        Stop();
        throw IoError("cannot start a busy loop", reason);
      }
      if (child == 0) Spin(parent);
      children_.push_back(child);
    }
  }
  ~BusyLoops() { Stop(); }
  BusyLoops(const BusyLoops&) = delete;
  BusyLoops& operator=(const BusyLoops&) = delete;

 private:
  [[noreturn]] static void Spin(pid_t parent) {
    ::signal(SIGINT, SIG_DFL);
    ::signal(SIGTERM, SIG_DFL);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(0);  // gone before that call
    for (volatile unsigned turns = 0;;) turns = turns + 1;
  }

  void Stop() {
    for (const pid_t child : children_) ::kill(child, SIGKILL);
    for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
    children_.clear();
  }

  std::vector<pid_t> children_;
};

// What is measured: prefill, decode, recycled TTFT, restore, embedding.
class Figures {
 public:
  Figures(engine::Generator& generator, const std::filesystem::path& scratch)
      : generator_(generator), scratch_(scratch) {
    const int context = generator.info().context_tokens;
    const int prompt = std::min(417, context / 2), steps = std::min(24, context / 4);
    const int cached = std::min(900, context - 16), suffix = 8;
    const Tokens tokens = RandomTokens(generator, cached + suffix, 1);
    view_ = SaveInScratch(generator, scratch, Tokens(tokens.begin(), tokens.begin() + cached));
    baseline_.tokens = Tokens(tokens.begin(), tokens.begin() + prompt);
    baseline_.max_new_tokens = steps + 1;
    baseline_.stop_at_eos = false;
    recycled_.tokens = tokens;
    recycled_.max_new_tokens = 1;
    recycled_.arm = engine::Arm::kRecycled;
    recycled_.reuse.match = cache::Match::kWhole;
    recycled_.view = &*view_;
    const auto add = [&](const char* phase, std::string what, const char* unit) {
      rows_.push_back({.phase = phase, .what = std::move(what), .unit = unit});
    };
    add("prefill", fmt::format("{} tokens", prompt), "tok/s");
    add("decode", fmt::format("{} tokens behind them", steps), "tok/s");
    add("recycled TTFT", fmt::format("{} restored + {}", cached, suffix), "ms");
    add("restore", fmt::format("{} tokens, page cache", cached), "GB/s");
    if (generator.encoder() != nullptr) {
      add("embedding", fmt::format("{} word pieces", generator.Embed(kSentence).pieces_total),
          "ms");
    }
  }

  // A row for each figure, with its names alone.
  [[nodiscard]] const std::vector<BusyRow>& rows() const { return rows_; }

  // In the order of rows(). What takes less than the system's time slices is done several times
  // and its mean counts, since that is what work that goes on and on gets.
  std::vector<double> Measure() {
    constexpr int kTimes = 10;
    ThrowIfInterrupted();
    const engine::Timings baseline = generator_.Generate(baseline_).timings;
    const auto steps = static_cast<double>(baseline_.max_new_tokens - 1);
    std::vector<double> values = {
        static_cast<double>(baseline_.tokens.size()) / baseline.ttft_ms * 1e3,
        steps / baseline.decode_ms * 1e3};
    double ttft_ms = 0, restore_ms = 0, bytes = 0;
    for (int i = 0; i < kTimes; ++i) {
      ThrowIfInterrupted();
      const engine::Generation recycled = generator_.Generate(recycled_);
      if (recycled.restored_bytes == 0) {
        throw Error(Error::Kind::kCheckFailed,
                    fmt::format("what was saved was not found again in {}: is something else "
                                "writing to it?",
                                scratch_.string()));
      }
      ttft_ms += recycled.timings.ttft_ms;
      restore_ms += recycled.timings.restore_ms;
      bytes += static_cast<double>(recycled.restored_bytes);
    }
    values.push_back(ttft_ms / kTimes);
    values.push_back(bytes / restore_ms / 1e6);
    if (generator_.encoder() != nullptr) {
      const Stopwatch watch;
      for (int i = 0; i < kTimes; ++i) (void)generator_.Embed(kSentence);
      values.push_back(watch.ElapsedMs() / kTimes);
    }
    return values;
  }

 private:
  engine::Generator& generator_;
  const std::filesystem::path scratch_;
  engine::Request baseline_, recycled_;
  std::optional<cache::View> view_;
  std::vector<BusyRow> rows_;
};

// By repetition and figure.
using Found = std::vector<std::vector<double>>;

void FillIn(std::size_t figure, const Found& quietly, const Found& beside, BusyRow* row) {
  std::vector<double> quiet, measured;
  for (std::size_t i = 0; i < beside.size(); ++i) {
    quiet.push_back(quietly[i][figure]);
    measured.push_back(beside[i][figure]);
    row->shares.push_back(MoreIsBetter(row->unit) ? measured[i] / quiet[i]
                                                  : quiet[i] / measured[i]);
  }
  row->quiet = record::Median(quiet).value_or(0);
  row->measured = record::Median(measured).value_or(0);
  row->share = record::Median(row->shares).value_or(0);
}

}  // namespace

double FairShare(int threads, int loops, int cores) {
  return std::min(1.0, static_cast<double>(cores) / (threads + loops));
}

BusyResult RunBenchBusy(engine::Generator& generator, const std::vector<int>& loops,
                        const BenchOptions& options) {
  generator.WarmUp();
  Figures figures(generator, options.scratch);
  std::vector<int> all = {0};
  all.insert(all.end(), loops.begin(), loops.end());
  std::map<int, Found> found;  // by number of loops
  for (int i = 0; i < options.repetitions; ++i) {
    for (const int count : all) {
      if (options.progress) {
        options.progress(fmt::format("repetition {} of {}, beside {} busy loops", i + 1,
                                     options.repetitions, count));
      }
      const BusyLoops busy(count);
      (void)figures.Measure();  // until the system has given each its place
      found[count].push_back(figures.Measure());
    }
  }
  BusyResult result;
  result.cores = UsableCores().usable;
  for (std::size_t figure = 0; figure < figures.rows().size(); ++figure) {
    for (const int count : loops) {
      BusyRow& row = result.rows.emplace_back(figures.rows()[figure]);
      row.loops = count;
      row.fair_share = FairShare(model::DescribeRuntime().threads, count, result.cores);
      FillIn(figure, found.at(0), found.at(count), &row);
    }
  }
  result.setting = DescribeSetting(generator, options);
  return result;
}

Json ToJson(const BusyResult& result) {
  Json json = ToJson(result.setting);
  json["cores"] = result.cores;
  json["rows"] = Json::array();
  for (const BusyRow& row : result.rows) {
    json["rows"].push_back({{"phase", row.phase},
                            {"what", row.what},
                            {"unit", row.unit},
                            {"loops", row.loops},
                            {"quiet", row.quiet},
                            {"measured", row.measured},
                            {"share", row.share},
                            {"shares", row.shares},
                            {"fair_share", row.fair_share}});
  }
  return json;
}

}  // namespace kvr::experiment

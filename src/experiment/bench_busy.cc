#include "kvr/experiment/bench_busy.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <optional>
#include <random>

#include "kvr/base/clock.h"
#include "kvr/base/cores.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/experiment/environment.h"
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

struct Figure {
  std::string phase, what, unit;
  bool more;  // a larger one is better
};

class Bench {
 public:
  Bench(engine::Generator& generator, const BenchBusyOptions& options)
      : generator_(generator), options_(options) {}

  Json Run() {
    generator_.WarmUp();
    generator_.OpenStore(options_.scratch, {});
    Prepare();
    std::vector<int> all = {0};
    all.insert(all.end(), options_.loops.begin(), options_.loops.end());
    std::map<int, std::vector<std::vector<double>>> found;  // by loops, repetition and figure
    for (int i = 0; i < options_.repetitions; ++i) {
      for (const int loops : all) {
        if (options_.progress) {
          options_.progress("repetition " + std::to_string(i + 1) + " of " +
                            std::to_string(options_.repetitions) + ", beside " +
                            std::to_string(loops) + " busy loops");
        }
        const BusyLoops busy(loops);
        (void)Measure();  // until the system has given each its place
        found[loops].push_back(Measure());
      }
    }
    const int cores = UsableCores().usable;
    Json rows = Json::array();
    for (std::size_t figure = 0; figure < figures_.size(); ++figure) {
      for (const int loops : options_.loops) {
        rows.push_back(Row(figure, loops, cores, found.at(0), found.at(loops)));
      }
    }
    return {{"environment", DescribeEnvironment()},
            {"model", DescribeModel(generator_)},
            {"repetitions", options_.repetitions},
            {"cores", cores},
            {"rows", rows}};
  }

 private:
  Json Row(std::size_t at, int loops, int cores, const std::vector<std::vector<double>>& quietly,
           const std::vector<std::vector<double>>& beside) const {
    const Figure& figure = figures_[at];
    std::vector<double> quiet, measured, shares;
    for (std::size_t i = 0; i < beside.size(); ++i) {
      quiet.push_back(quietly[i][at]);
      measured.push_back(beside[i][at]);
      shares.push_back(figure.more ? measured[i] / quiet[i] : quiet[i] / measured[i]);
    }
    return {{"phase", figure.phase},
            {"what", figure.what},
            {"unit", figure.unit},
            {"loops", loops},
            {"quiet", record::Median(quiet).value_or(0)},
            {"measured", record::Median(measured).value_or(0)},
            {"share", record::Median(shares).value_or(0)},
            {"shares", shares},
            {"fair_share", FairShare(model::DescribeRuntime().threads, loops, cores)}};
  }

  void Prepare() {
    const int context = generator_.info().context_tokens;
    const int prompt = std::min(417, context / 2), steps = std::min(24, context / 4);
    const int cached = std::min(900, context - 16), suffix = 8;
    std::mt19937 random(1);
    Tokens tokens(static_cast<std::size_t>(cached + suffix));
    for (Token& token : tokens) {
      token = static_cast<Token>(random() % static_cast<unsigned>(generator_.info().vocab));
    }
    generator_.Save(Tokens(tokens.begin(), tokens.begin() + cached));
    view_ = generator_.store()->MakeView();
    baseline_.tokens = Tokens(tokens.begin(), tokens.begin() + prompt);
    baseline_.max_new_tokens = steps + 1;
    baseline_.stop_at_eos = false;
    recycled_.tokens = tokens;
    recycled_.max_new_tokens = 1;
    recycled_.arm = engine::Arm::kRecycled;
    recycled_.reuse.match = cache::Match::kWhole;
    recycled_.view = &*view_;
    const std::string depth = std::to_string(cached);
    figures_ = {{"prefill", std::to_string(prompt) + " tokens", "tok/s", true},
                {"decode", std::to_string(steps) + " tokens behind them", "tok/s", true},
                {"recycled TTFT", depth + " restored + " + std::to_string(suffix), "ms", false},
                {"restore", depth + " tokens, page cache", "GB/s", true}};
    if (generator_.encoder() != nullptr) {
      const int pieces = static_cast<int>(generator_.Embed(kText).pieces_total);
      figures_.push_back({"embedding", std::to_string(pieces) + " word pieces", "ms", false});
    }
  }

  // In the order of figures_. What takes less than the system's time slices is done several times
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
        throw Error(Error::Kind::kCheckFailed, "what was saved was not found again in " +
                                                   options_.scratch.string() +
                                                   ": is something else writing to it?");
      }
      ttft_ms += recycled.timings.ttft_ms;
      restore_ms += recycled.timings.restore_ms;
      bytes += static_cast<double>(recycled.restored_bytes);
    }
    values.push_back(ttft_ms / kTimes);
    values.push_back(bytes / restore_ms / 1e6);
    if (generator_.encoder() != nullptr) {
      const Stopwatch watch;
      for (int i = 0; i < kTimes; ++i) (void)generator_.Embed(kText);
      values.push_back(watch.ElapsedMs() / kTimes);
    }
    return values;
  }

  static constexpr const char* kText =
      "How do I reset the password of my account when I no longer have the phone that I used to "
      "register with, and nobody answers the support line?";

  engine::Generator& generator_;
  const BenchBusyOptions& options_;
  engine::Request baseline_, recycled_;
  std::optional<cache::View> view_;
  std::vector<Figure> figures_;
};

}  // namespace

double FairShare(int threads, int loops, int cores) {
  return std::min(1.0, static_cast<double>(cores) / (threads + loops));
}

Json RunBenchBusy(engine::Generator& generator, const BenchBusyOptions& options) {
  return Bench(generator, options).Run();
}

}  // namespace kvr::experiment

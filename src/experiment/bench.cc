#include "kvr/experiment/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <random>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/experiment/environment.h"
#include "kvr/model/machine.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {

namespace {

class Bench {
 public:
  Bench(engine::Generator& generator, const BenchOptions& options)
      : generator_(generator), options_(options), info_(generator.info()) {}

  Json Run() {
    const model::LanguageModel& network = generator_.language_model();
    for (const auto& [out, in] : network.layer_shapes()) {
      layer_parameters_ += static_cast<double>(out * in);
    }
    head_parameters_ =
        static_cast<double>(network.head_shape().first * network.head_shape().second);
    layer_parameters_ *= info_.layers;

    bytes_per_weight_ = info_.precision == "fp32" ? 4 : info_.precision == "bf16" ? 2 : 1.25;
    Say("machine limits");
    MeasureBandwidth();
    for (const int rows : {4, 16, 32, 64, 128, 256, 512}) MeasureGemmRate(rows);
    generator_.WarmUp();
    Prefill();
    Decode();
    SuffixAndRestore();
    Embedding();
    Lookup();
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    Row("peak memory", "what measures limits included", static_cast<double>(usage.ru_maxrss) / 1e3,
        std::nullopt, "MB", false);
    Load();  // last: a second model
    Json gemm = Json::object();
    for (const auto& [rows, rate] : gemm_rates_) gemm[std::to_string(rows)] = rate / 1e9;
    Json model = DescribeModel(generator_);
    model["device"] = network.device_description();
    model["parameters"] = info_.parameters;
    return {{"environment", DescribeEnvironment()},
            {"model", model},
            {"limits",
             {{"read_gb_per_s", read_rates_},
              {"copy_gb_per_s", copy_rates_},
              {"gemm_gflop_per_s_by_rows", gemm}}},
            {"repetitions", options_.repetitions},
            {"rows", rows_}};
  }

 private:
  void Say(const std::string& what) {
    ThrowIfInterrupted();
    if (options_.progress) options_.progress(what);
  }

  void MeasureBandwidth() {
    read_rate_ = model::MeasureReadBandwidth();
    copy_rate_ = model::MeasureCopyBandwidth();
    read_rates_.push_back(read_rate_ / 1e9);
    copy_rates_.push_back(copy_rate_ / 1e9);
  }

  // `more`: a larger figure is better.
  void Row(const std::string& phase, const std::string& what, double measured,
           std::optional<double> bound, const std::string& unit, bool more) {
    Json limit = nullptr, ratio = nullptr;
    if (bound.has_value() && !on_device_) {  // the limits are the CPU's
      limit = *bound;
      ratio = more ? measured / *bound : *bound / measured;
    }
    rows_.push_back({{"phase", phase},
                     {"what", what},
                     {"measured", measured},
                     {"bound", limit},
                     {"unit", unit},
                     {"ratio", ratio}});
  }

  template <typename Work>
  double MedianMs(Work&& work) {
    std::vector<double> samples;
    for (int i = 0; i < options_.repetitions; ++i) {
      ThrowIfInterrupted();
      samples.push_back(work());
    }
    return record::Median(samples).value_or(0);
  }

  // Of a phase that memory bounds: the bandwidth is measured after each run, since on shared
  // machines it changes within seconds, and is then the median of what was found.
  template <typename Work>
  double MedianMsBesideBandwidth(Work&& work) {
    std::vector<double> read, copy;
    const double ms = MedianMs([&] {
      const double sample = work();
      MeasureBandwidth();
      read.push_back(read_rate_);
      copy.push_back(copy_rate_);
      return sample;
    });
    read_rate_ = record::Median(read).value_or(read_rate_);
    copy_rate_ = record::Median(copy).value_or(copy_rate_);
    return ms;
  }

  // Again beside each phase that it bounds; the best of the run counts.
  void MeasureGemmRate(int rows) {
    double& rate = gemm_rates_[rows];
    rate = std::max(rate, model::MeasureGemmRate(generator_.language_model().layer_shapes(), rows));
  }

  Tokens RandomTokens(int count, unsigned seed) const {
    std::mt19937 random(seed);
    Tokens tokens(static_cast<std::size_t>(count));
    for (Token& token : tokens) {
      token = static_cast<Token>(random() % static_cast<unsigned>(info_.vocab));
    }
    return tokens;
  }

  // Seconds that the operations of `tokens` prefilled tokens take at the rate of `rows` rows, and
  // the head's single row at reading speed.
  double ComputeSeconds(int tokens, int rows) {
    return 2 * layer_parameters_ * tokens / gemm_rates_.at(rows) +
           bytes_per_weight_ * head_parameters_ / read_rate_;
  }

  [[nodiscard]] double WeightSeconds() const {
    return bytes_per_weight_ * (layer_parameters_ + head_parameters_) / read_rate_;
  }

  // The language model's archive, against reading the file once, both from the page cache.
  void Load() {
    Say("model load");
    std::vector<char> piece(1 << 22);
    std::vector<double> read_ms;
    const double load_ms = MedianMs([&] {
      const UniqueFd fd = OpenForRead(info_.path);
      const std::uint64_t size = FileSize(fd.get(), info_.path);
      const auto read = [&] {
        const Stopwatch watch;
        for (std::uint64_t at = 0; at < size; at += piece.size()) {
          iovec part{piece.data(), std::min<std::size_t>(piece.size(), size - at)};
          ReadScattered(fd.get(), at, {&part, 1}, info_.path);
        }
        return watch.ElapsedMs();
      };
      read();  // what has left the page cache comes back
      read_ms.push_back(read());
      const Stopwatch watch;
      const model::LanguageModel another(
          info_.path, {.block_tokens = generator_.language_model().block_tokens(),
                       .device = generator_.language_model().device()});
      return watch.ElapsedMs();
    });
    Row("model load", "archive to ready", load_ms, record::Median(read_ms), "ms", false);
  }

  void Prefill() {
    for (const int length : {128, 256, 512, 900}) {
      if (length >= info_.context_tokens) continue;
      Say("prefill of " + std::to_string(length));
      engine::Request request;
      request.tokens = RandomTokens(length, 1);
      request.max_new_tokens = 1;
      const int rows = std::min(length, 512);
      MeasureGemmRate(rows);
      const double ms = MedianMs([&] { return generator_.Generate(request).timings.ttft_ms; });
      const double bound = length / ComputeSeconds(length, rows);
      Row("prefill", std::to_string(length) + " tokens", length / ms * 1e3, bound, "tok/s", true);
      if (length != 900) continue;
      request.free_piece_tokens = length;
      const double one_shot =
          MedianMs([&] { return generator_.Generate(request).timings.ttft_ms; });
      Row("prefill", "900 tokens in one piece, no schedule", length / one_shot * 1e3, bound,
          "tok/s", true);
    }
  }

  void Decode() {
    constexpr int kSteps = 16;
    for (const int depth : {16, 512, 900}) {
      if (depth + kSteps >= info_.context_tokens) continue;
      Say("decode at depth " + std::to_string(depth));
      engine::Request request;
      request.tokens = RandomTokens(depth, 2);
      request.max_new_tokens = kSteps + 1;
      request.stop_at_eos = false;
      const double ms = MedianMsBesideBandwidth(
          [&] { return generator_.Generate(request).timings.decode_ms / kSteps; });
      const double bytes =
          static_cast<double>(generator_.kv_bytes_per_token()) * (depth + kSteps / 2.0);
      const double bound = 1 / (WeightSeconds() + bytes / read_rate_);
      Row("decode", "depth " + std::to_string(depth), 1e3 / ms, bound, "tok/s", true);
    }
  }

  void SuffixAndRestore() {
    const int depth = std::min(900, info_.context_tokens - 64);
    Say("filling a cache");
    generator_.OpenStore(options_.scratch, {});
    const Tokens tokens = RandomTokens(depth, 3);
    generator_.Save(tokens);
    const cache::View view = generator_.store()->MakeView();
    for (const int cached : {256, depth}) {
      for (const int suffix : {1, 8, 32}) {
        if (cached >= depth + suffix) continue;
        Say("suffix of " + std::to_string(suffix) + " at depth " + std::to_string(cached));
        engine::Request request;
        request.tokens.assign(tokens.begin(), tokens.begin() + cached);
        const Tokens added = RandomTokens(suffix, 4);
        request.tokens.insert(request.tokens.end(), added.begin(), added.end());
        request.max_new_tokens = 1;
        request.arm = engine::Arm::kRecycled;
        request.view = &view;
        request.reuse.match = cached == depth ? cache::Match::kWhole : cache::Match::kToken;
        const bool deepest = cached == depth && suffix == 32;
        engine::Generation last;
        std::vector<double> speedups;
        const int rows = (suffix + 3) / 4 * 4;
        MeasureGemmRate(rows);
        const double ms = MedianMsBesideBandwidth([&] {
          // The baselines first: the bandwidth is to be that of the recycled run.
          double baseline_ms = 0;
          if (deepest) {
            engine::Request baseline = request;
            baseline.arm = engine::Arm::kBaseline;
            baseline_ms = generator_.Generate(baseline).timings.ttft_ms;
            baseline.free_piece_tokens = static_cast<int>(baseline.tokens.size());
            baseline_ms = std::min(baseline_ms, generator_.Generate(baseline).timings.ttft_ms);
          }
          last = generator_.Generate(request);
          if (deepest) speedups.push_back(baseline_ms / last.timings.ttft_ms);
          return last.timings.ttft_ms;
        });
        const double bytes = static_cast<double>(last.restored_bytes);
        const double bound =
            2 * bytes / copy_rate_ + std::max(WeightSeconds(), ComputeSeconds(suffix, rows));
        Row("recycled TTFT",
            std::to_string(last.reuse_depth) + " restored + " + std::to_string(suffix), ms,
            bound * 1e3, "ms", false);
        if (!deepest) continue;
        deepest_ttft_ms_ = ms;
        Row("speedup",
            "faster baseline over recycled, " + std::to_string(last.reuse_depth) + " + 32",
            record::Median(speedups).value_or(0), std::nullopt, "x", true);
      }
    }
    Overhead(tokens);
    Restore(view, tokens);
  }

  // What a recycled Generate takes beside the models' arithmetic and the restore, with 1,000
  // entries to look among: against a hundredth of the deepest recycled TTFT.
  void Overhead(const Tokens& tokens) {
    if (generator_.encoder() == nullptr || deepest_ttft_ms_ == 0) return;
    Say("overhead");
    const std::string text = "What is the capital of the country where the river has its source?";
    cache::IndexPicture picture = Crowd(kEntries - 1);
    picture.entries.push_back(Entry(tokens, generator_.Embed(text).values, &picture));
    const cache::View view(std::move(picture), generator_.cache_key().Hash(),
                           generator_.cache_key().block_tokens);
    engine::Request request;
    request.tokens = tokens;
    const Tokens added = RandomTokens(32, 4);
    request.tokens.insert(request.tokens.end(), added.begin(), added.end());
    request.text = text;
    request.max_new_tokens = 1;
    request.arm = engine::Arm::kRecycled;
    request.view = &view;
    request.reuse = {.policy = engine::Policy::kEmbedding, .match = cache::Match::kWhole};
    const double ms = MedianMs([&] {
      const Stopwatch watch;
      const engine::Generation generation = generator_.Generate(request);
      const double all_ms = watch.ElapsedMs();
      if (generation.reuse_depth != static_cast<int>(tokens.size())) {
        throw Error(Error::Kind::kCheckFailed, "the entry among 1,000 was not found");
      }
      const engine::Timings& timings = generation.timings;
      return all_ms - timings.embed_ms - timings.restore_ms - timings.prefill_ms;
    });
    Row("overhead", "beside arithmetic and restore, 1000 entries", ms, deepest_ttft_ms_ / 100, "ms",
        false);
  }

  void Restore(const cache::View& view, const Tokens& tokens) {
    Say("restore");
    const cache::Plan plan = view.WalkPrefix({.tokens = tokens});
    model::KvBuffer buffer =
        generator_.language_model().NewBuffer(static_cast<int>(plan.CapacityNeeded()) + 1);
    const cache::KvBufferView target = {buffer.keys(), buffer.values(),
                                        static_cast<std::uint32_t>(buffer.capacity_tokens())};
    // What the disk gave back lies in the page cache in smaller pieces than what was written.
    struct Case {
      const char* from;
      bool cold;
      int threads;
    };
    const int all = model::DescribeRuntime().threads;
    for (const Case& at :
         {Case{"page cache", false, 1}, Case{"page cache", false, all}, Case{"cold disk", true, 1},
          Case{"cold disk", true, all}, Case{"page cache, read back", false, all}}) {
      double bytes = 0;
      const auto restore = [&] {
        if (at.cold) generator_.store()->DropFromPageCache(plan);
        const Stopwatch watch;
        bytes = static_cast<double>(generator_.store()->Restore(plan, target, at.threads).bytes);
        return watch.ElapsedMs();
      };
      const double ms = at.cold ? MedianMs(restore) : MedianMsBesideBandwidth(restore);
      Row("restore",
          std::string(at.from) + ", " + std::to_string(at.threads) +
              (at.threads == 1 ? " thread" : " threads"),
          bytes / ms / 1e6, at.cold ? std::nullopt : std::optional(copy_rate_ / 2 / 1e9), "GB/s",
          true);
    }
  }

  void Embedding() {
    if (generator_.encoder() == nullptr) return;
    Say("embedding");
    const std::string text =
        "How do I reset the password of my account when I no longer have the phone that I used to "
        "register with, and nobody answers the support line?";
    const double ms = MedianMs([&] {
      const Stopwatch watch;
      (void)generator_.Embed(text);
      return watch.ElapsedMs();
    });
    Row("embedding", std::to_string(generator_.Embed(text).pieces_total) + " word pieces", ms,
        std::nullopt, "ms", false);
  }

  // An entry of these tokens, as the index has it; its blocks join `picture`.
  cache::EntryRow Entry(Tokens tokens, std::vector<float> embedding,
                        cache::IndexPicture* picture) const {
    const cache::CacheKey& key = generator_.cache_key();
    cache::EntryRow row;
    row.tokens = std::move(tokens);
    row.id = cache::ChainHash(key.Hash(), row.tokens);
    row.embedding = std::move(embedding);
    row.encoder = generator_.encoder()->info().fingerprint;
    row.created_us = static_cast<std::int64_t>(picture->entries.size()) + 1;
    for (const cache::ChainLink& link : cache::Chain(key.Hash(), row.tokens, key.block_tokens)) {
      row.chain.push_back(link.hash);
      picture->blocks[link.hash] = {link.hash, link.parent, link.count, 1};
    }
    return row;
  }

  // `count` entries of 900 tokens, as near to each other as chance has it.
  [[nodiscard]] cache::IndexPicture Crowd(int count) const {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    cache::IndexPicture picture;
    for (int i = 0; i < count; ++i) {
      std::vector<float> values(static_cast<std::size_t>(generator_.encoder()->info().width));
      for (float& value : values) value = normal(random);
      const float norm =
          std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0F));
      for (float& value : values) value /= norm;
      picture.entries.push_back(
          Entry(RandomTokens(900, 1000 + static_cast<unsigned>(i)), std::move(values), &picture));
    }
    return picture;
  }

  // Finding the entry among 1,000 of 900 tokens, of which one begins the prompt: against a
  // hundredth of the deepest recycled TTFT.
  void Lookup() {
    if (generator_.encoder() == nullptr) return;
    Say("lookup");
    cache::IndexPicture picture = Crowd(kEntries);
    const std::vector<float> wanted = picture.entries[kEntries / 2].embedding;
    Tokens prompt = picture.entries[kEntries / 2].tokens;
    const std::size_t tokens = prompt.size();
    prompt.push_back(1);
    const cache::View view(std::move(picture), generator_.cache_key().Hash(),
                           generator_.cache_key().block_tokens);
    const cache::Query query{.tokens = prompt};
    for (const bool embedding : {true, false}) {
      std::uint32_t depth = 0;
      const double ms = MedianMs([&] {
        const Stopwatch watch;
        depth = embedding
                    ? view.LongestVerified(
                              view.Nearest(wanted, generator_.encoder()->info().fingerprint, 5, 0),
                              query)
                          .depth
                    : view.WalkPrefix(query).depth;
        return watch.ElapsedMs();
      });
      if (depth != tokens) {
        throw Error(Error::Kind::kCheckFailed, "lookup found " + std::to_string(depth) +
                                                   " tokens, expected " + std::to_string(tokens));
      }
      Row("lookup", std::string(embedding ? "embedding" : "prefix") + ", 1000 entries", ms,
          deepest_ttft_ms_ > 0 ? std::optional(deepest_ttft_ms_ / 100) : std::nullopt, "ms", false);
    }
  }

  static constexpr int kEntries = 1000;

  engine::Generator& generator_;
  const BenchOptions& options_;
  const model::ArchiveInfo& info_;
  double layer_parameters_ = 0, head_parameters_ = 0;
  const bool on_device_ = generator_.language_model().device() != "cpu";
  double read_rate_ = 0, copy_rate_ = 0, bytes_per_weight_ = 4, deepest_ttft_ms_ = 0;
  std::map<int, double> gemm_rates_;
  Json read_rates_ = Json::array(), copy_rates_ = Json::array();  // GB/s, as they were measured
  Json rows_ = Json::array();
};

}  // namespace

Json RunBench(engine::Generator& generator, const BenchOptions& options) {
  return Bench(generator, options).Run();
}

}  // namespace kvr::experiment

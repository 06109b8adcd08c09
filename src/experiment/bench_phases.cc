#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>

#include "bench_meter.h"
#include "kvr/base/clock.h"
#include "kvr/base/file.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {

namespace {

std::vector<BenchRow> Prefill(BenchMeter& meter) {
  constexpr int kLongest = 900;
  std::vector<BenchRow> rows;
  for (const int length : {128, 256, 512, kLongest}) {
    if (length >= meter.generator.info().context_tokens) continue;
    meter.Say(fmt::format("prefill of {}", length));
    engine::Request request;
    request.tokens = RandomTokens(meter.generator, length, 1);
    request.max_new_tokens = 1;
    const auto add = [&](const std::string& what) {
      const double ms = meter.MedianBesideLimits(
          [&] { return meter.generator.Generate(request).timings.ttft_ms; }, std::min(length, 512));
      rows.push_back({.what = what,
                      .measured = length * 1e3 / ms,
                      .bound = length / meter.ComputeSeconds(length),
                      .unit = "tok/s"});
    };
    add(fmt::format("{} tokens", length));
    if (length != kLongest) continue;
    request.free_chunk_tokens = length;
    add(fmt::format("{} tokens in one piece, no schedule", length));
  }
  return rows;
}

std::vector<BenchRow> Decode(BenchMeter& meter) {
  constexpr int kSteps = 16;
  std::vector<BenchRow> rows;
  for (const int depth : {16, 512, 900}) {
    if (depth + kSteps >= meter.generator.info().context_tokens) continue;
    meter.Say(fmt::format("decode at depth {}", depth));
    engine::Request request;
    request.tokens = RandomTokens(meter.generator, depth, 2);
    request.max_new_tokens = kSteps + 1;
    request.stop_at_eos = false;
    const double ms = meter.MedianBesideLimits(
        [&] { return meter.generator.Generate(request).timings.decode_ms / kSteps; });
    const double bytes =
        static_cast<double>(meter.generator.kv_bytes_per_token()) * (depth + kSteps / 2.0);
    rows.push_back({.what = fmt::format("depth {}", depth),
                    .measured = 1e3 / ms,
                    .bound = 1 / (meter.WeightSeconds() + bytes / meter.read_rate()),
                    .unit = "tok/s"});
  }
  return rows;
}

std::vector<BenchRow> Embedding(BenchMeter& meter) {
  if (meter.generator.encoder() == nullptr) return {};
  meter.Say("embedding");
  std::size_t pieces = 0;
  const double ms = meter.Median([&] {
    const Stopwatch watch;
    pieces = meter.generator.Embed(kSentence).pieces_total;
    return watch.ElapsedMs();
  });
  return {{.what = fmt::format("{} word pieces", pieces), .measured = ms, .unit = "ms"}};
}

std::vector<BenchRow> PeakMemory(BenchMeter&) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return {{.what = "what measures limits included",
           .measured = static_cast<double>(usage.ru_maxrss) / 1e3,
           .unit = "MB"}};
}

// The language model's archive, against reading the file once, both from the page cache.
std::vector<BenchRow> LoadModel(BenchMeter& meter) {
  meter.Say("model load");
  const std::filesystem::path path = meter.generator.info().path;
  std::vector<char> piece(1 << 22);
  std::vector<double> read_ms;
  const double load_ms = meter.Median([&] {
    const UniqueFd fd = OpenForRead(path);
    const std::uint64_t size = FileSize(fd.get(), path);
    const auto read = [&] {
      const Stopwatch watch;
      for (std::uint64_t at = 0; at < size; at += piece.size()) {
        iovec part{piece.data(), std::min<std::size_t>(piece.size(), size - at)};
        ReadScattered(fd.get(), at, {&part, 1}, path);
      }
      return watch.ElapsedMs();
    };
    read();  // what has left the page cache comes back
    read_ms.push_back(read());
    model::LanguageModel& network = meter.generator.language_model();
    const Stopwatch watch;
    const model::LanguageModel another(
        path, {.block_tokens = network.block_tokens(), .device = network.device()});
    return watch.ElapsedMs();
  });
  return {{.what = "archive to ready",
           .measured = load_ms,
           .bound = record::Median(read_ms),
           .unit = "ms"}};
}

}  // namespace

std::span<const BenchPhase> BenchPhases() {
  static constexpr std::array kPhases = {
      BenchPhase{"prefill", Prefill},
      BenchPhase{"decode", Decode},
      BenchPhase{"recycled TTFT", BenchRecycledTtft},
      BenchPhase{"overhead", BenchOverhead},  // against the phase before
      BenchPhase{"restore", BenchRestore},
      BenchPhase{"embedding", Embedding},
      BenchPhase{"lookup", BenchLookup},
      BenchPhase{"peak memory", PeakMemory},
      BenchPhase{"model load", LoadModel},  // last: a second model
  };
  return kPhases;
}

}  // namespace kvr::experiment

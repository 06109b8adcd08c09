#include "kvr/experiment/bench_profile.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "bench_meter.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"

namespace kvr::experiment {

namespace {

// `tokens` behind `past` others, as the block schedule takes them, or one by one as decoding does.
struct Work {
  std::string what;
  int past, tokens;
  bool decode;
};

void Run(model::LanguageModel& network, std::span<const Token> ids, const Work& work,
         model::KvBuffer& buffer) {
  if (work.decode) {
    (void)network.Decode(ids[static_cast<std::size_t>(work.past)], work.past, buffer);
    return;
  }
  const int chunk = network.chunk_tokens(), end = work.past + work.tokens;
  for (int at = work.past; at < end; at += chunk) {
    const auto count = static_cast<std::size_t>(std::min(chunk, end - at));
    (void)network.Prefill(ids.subspan(static_cast<std::size_t>(at), count), at, buffer);
  }
}

BenchProfile Profile(engine::Generator& generator, const Work& work, int repetitions) {
  model::LanguageModel& network = generator.language_model();
  const Tokens tokens = RandomTokens(generator, work.past + work.tokens, 5);
  model::KvBuffer buffer = network.NewBuffer(static_cast<int>(tokens.size()));
  if (work.past > 0) Run(network, tokens, {"", 0, work.past, false}, buffer);
  Run(network, tokens, work, buffer);  // warms up
  BenchProfile profile{work.what, 0, {}};
  profile.operators = model::ProfileOperators([&] {
    for (int i = 0; i < repetitions; ++i) {
      ThrowIfInterrupted();
      const Stopwatch watch;
      Run(network, tokens, work, buffer);
      profile.ms += watch.ElapsedMs();
    }
  });
  profile.ms /= repetitions;
  for (model::OperatorTime& part : profile.operators) {
    part.calls /= repetitions;
    part.ms /= repetitions;
    part.flop /= repetitions;
  }
  return profile;
}

}  // namespace

double BenchProfile::OutsideMs() const {
  return std::accumulate(operators.begin(), operators.end(), ms,
                         [](double left, const auto& part) { return left - part.ms; });
}

BenchProfileResult RunBenchProfile(engine::Generator& generator, const BenchOptions& options) {
  if (generator.language_model().kernel_path() == "torch") {
    throw InvalidInput("a profile is of the program's own kernels; here torch's compute");
  }
  generator.WarmUp();
  BenchProfileResult result{DescribeSetting(generator, options), {}};
  for (const Work& work :
       {Work{"prefill of 512", 0, 512, false}, Work{"prefill of 900", 0, 900, false},
        Work{"8 tokens behind 892", 892, 8, false}, Work{"decode behind 16", 16, 1, true},
        Work{"decode behind 900", 900, 1, true}}) {
    if (work.past + work.tokens >= generator.info().context_tokens) continue;
    if (options.progress) options.progress(work.what);
    result.profiles.push_back(Profile(generator, work, options.repetitions));
  }
  return result;
}

Json ToJson(const BenchProfileResult& result) {
  Json profiles = Json::array();
  for (const BenchProfile& profile : result.profiles) {
    Json operators = Json::array();
    for (const model::OperatorTime& part : profile.operators) {
      operators.push_back(
          {{"name", part.name},
           {"calls", part.calls},
           {"ms", part.ms},
           {"gflop_per_s", part.flop > 0 ? Json(part.flop / part.ms / 1e6) : Json(nullptr)}});
    }
    profiles.push_back({{"what", profile.what},
                        {"ms", profile.ms},
                        {"outside_ms", profile.OutsideMs()},
                        {"operators", operators}});
  }
  Json json = ToJson(result.setting);
  json["profiles"] = profiles;
  return json;
}

}  // namespace kvr::experiment

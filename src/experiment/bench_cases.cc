#include "kvr/experiment/bench_cases.h"

#include <ctime>
#include <limits>
#include <optional>
#include <set>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/experiment/environment.h"

namespace kvr::experiment {

namespace {

using What = BenchCase::What;

struct Kind {
  What what;
  const char* name;
  std::vector<std::string> required, optional;
};

const std::vector<Kind>& Kinds() {
  static const std::vector<Kind> kinds = {
      {What::kPrefill, "prefill", {"tokens"}, {"new_tokens"}},
      {What::kDecode, "decode", {"tokens", "new_tokens"}, {}},
      {What::kRecycled, "recycled", {"tokens", "cached"}, {"new_tokens"}},
      {What::kEmbed, "embed", {"text"}, {}}};
  return kinds;
}

int Integer(const Json& value, int least, int most, const std::string& where) {
  if (!value.is_number_integer() || value < least || value > most) {
    throw InvalidInput(where + ": found " + DumpLine(value).substr(0, 40) +
                       ", expected an integer from " + std::to_string(least) + " to " +
                       std::to_string(most));
  }
  return value.get<int>();
}

const Kind& FindKind(const Json& json, const std::string& where) {
  std::string names;
  for (const Kind& kind : Kinds()) {
    if (json.is_object() && json.contains("what") && json["what"] == kind.name) return kind;
    if (!names.empty()) names += ", ";
    names += kind.name;
  }
  throw InvalidInput(where + ": found " + DumpLine(json).substr(0, 80) +
                     ", expected an object whose \"what\" is one of " + names);
}

BenchCase ReadCase(const Json& json, int vocab, const std::string& where) {
  const Kind& kind = FindKind(json, where);
  std::set<std::string> allowed = {"what"};
  allowed.insert(kind.required.begin(), kind.required.end());
  allowed.insert(kind.optional.begin(), kind.optional.end());
  const auto unknown = [&](const std::string& key) {
    return InvalidInput(where + ": found \"" + key + "\", which a case of \"" + kind.name +
                        "\" does not have");
  };
  for (const auto& [key, value] : json.items()) {
    if (!allowed.contains(key)) throw unknown(key);
  }
  const auto missing = [&](const std::string& key) {
    return InvalidInput(where + ": a case of \"" + kind.name + "\" needs \"" + key + "\"");
  };
  for (const std::string& key : kind.required) {
    if (!json.contains(key)) throw missing(key);
  }

  BenchCase result;
  result.what = kind.what;
  if (kind.what == What::kEmbed) {
    if (!json["text"].is_string()) throw InvalidInput(where + ": expected a string as \"text\"");
    result.text = json["text"];
    return result;
  }
  const Json& tokens = json["tokens"];
  if (!tokens.is_array() || tokens.empty()) {
    throw InvalidInput(where + ": expected \"tokens\" as a list of one or more token ids");
  }
  for (const Json& token : tokens) {
    result.tokens.push_back(Integer(token, 0, vocab - 1, where + ", tokens"));
  }
  if (json.contains("cached")) {
    result.cached =
        Integer(json["cached"], 1, static_cast<int>(result.tokens.size()) - 1, where + ", cached");
  }
  if (json.contains("new_tokens")) {
    result.new_tokens = Integer(json["new_tokens"], kind.what == What::kDecode ? 2 : 1,
                                std::numeric_limits<int>::max(), where + ", new_tokens");
  }
  return result;
}

// Of all threads, since the process began.
double ProcessorMs() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

class Runner {
 public:
  Runner(engine::Generator& generator, const BenchCasesOptions& options)
      : generator_(generator), options_(options) {}

  Json Run(const BenchCase& work) {
    Json result = work.what == What::kEmbed ? Embed(work) : Generate(work);
    for (const Kind& kind : Kinds()) {
      if (kind.what == work.what) result["what"] = kind.name;
    }
    return result;
  }

 private:
  // Calls work(measured): once unmeasured, then the repetitions. Returns the busy cores.
  template <typename Work>
  double Repeat(Work&& work) {
    ThrowIfInterrupted();
    work(false);
    const Stopwatch watch;
    const double begin = ProcessorMs();
    for (int i = 0; i < options_.repetitions; ++i) {
      ThrowIfInterrupted();
      work(true);
    }
    return (ProcessorMs() - begin) / watch.ElapsedMs();
  }

  Json Embed(const BenchCase& work) {
    if (generator_.encoder() == nullptr) {
      throw InvalidInput("a case of \"embed\" needs an encoder: give --encoder FILE");
    }
    Json times = Json::array();
    engine::Generator::Embedding embedding;
    const double busy = Repeat([&](bool measured) {
      const Stopwatch watch;
      embedding = generator_.Embed(work.text);
      if (measured) times.push_back(watch.ElapsedMs());
    });
    return {{"pieces", embedding.pieces_total},
            {"embedding", embedding.values},
            {"ms", {{"embed", times}}},
            {"busy_cores", busy}};
  }

  Json Generate(const BenchCase& work) {
    engine::Request request;
    request.tokens = work.tokens;
    request.max_new_tokens = work.new_tokens;
    request.stop_at_eos = false;
    std::optional<cache::View> view;
    if (work.what == What::kRecycled) {
      if (generator_.store() == nullptr) generator_.OpenStore(options_.scratch, {});
      const Digest entry =
          generator_.Save(Tokens(work.tokens.begin(), work.tokens.begin() + work.cached)).put.entry;
      view = generator_.store()->MakeView().Subset({&entry, 1});
      request.arm = engine::Arm::kRecycled;
      request.reuse.match = cache::Match::kWhole;
      request.view = &*view;
    }

    Json ttft = Json::array(), restore = Json::array(), prefill = Json::array(),
         decode = Json::array();
    std::optional<engine::Generation> first;
    const double busy = Repeat([&](bool measured) {
      engine::Generation generation = generator_.Generate(request);
      if (generation.reuse_depth != work.cached) {
        throw Error(Error::Kind::kCheckFailed,
                    "restored " + std::to_string(generation.reuse_depth) + " tokens, expected " +
                        std::to_string(work.cached) + ": is something else writing to " +
                        options_.scratch.string() + "?");
      }
      if (first && first->tokens != generation.tokens) {
        throw Error(Error::Kind::kCheckFailed, "two runs of the same case gave different tokens");
      }
      const engine::Timings& timings = generation.timings;
      if (measured) {
        ttft.push_back(timings.ttft_ms);
        restore.push_back(timings.restore_ms);
        prefill.push_back(timings.prefill_ms);
        if (work.new_tokens > 1) decode.push_back(timings.decode_ms / (work.new_tokens - 1));
      }
      if (!first) first = std::move(generation);
    });
    return {
        {"prompt_tokens", work.tokens.size()},
        {"reuse_depth", first->reuse_depth},
        {"restored_bytes", first->restored_bytes},
        {"tokens", first->tokens},
        {"ms", {{"ttft", ttft}, {"restore", restore}, {"prefill", prefill}, {"decode", decode}}},
        {"busy_cores", busy}};
  }

  engine::Generator& generator_;
  const BenchCasesOptions& options_;
};

}  // namespace

std::vector<BenchCase> ReadBenchCases(const Json& json, int vocab, const std::string& where) {
  if (!json.is_array() || json.empty()) {
    throw InvalidInput(where + ": expected a list of one or more cases");
  }
  std::vector<BenchCase> cases;
  for (const Json& item : json) {
    cases.push_back(ReadCase(item, vocab, where + ", case " + std::to_string(cases.size() + 1)));
  }
  return cases;
}

Json RunBenchCases(engine::Generator& generator, const std::vector<BenchCase>& cases,
                   const BenchCasesOptions& options) {
  generator.WarmUp();
  Runner runner(generator, options);
  Json results = Json::array();
  for (const BenchCase& work : cases) {
    if (options.progress) {
      options.progress("case " + std::to_string(results.size() + 1) + " of " +
                       std::to_string(cases.size()));
    }
    results.push_back(runner.Run(work));
  }
  return {{"environment", DescribeEnvironment()},
          {"model", DescribeModel(generator)},
          {"repetitions", options.repetitions},
          {"cases", results}};
}

}  // namespace kvr::experiment

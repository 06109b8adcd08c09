#include "kvr/experiment/bench_cases.h"

#include <spdlog/fmt/fmt.h>

#include <ctime>
#include <limits>
#include <optional>
#include <set>

#include "bench_meter.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/base/registry.h"

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
    throw InvalidInput(fmt::format("{}: found {}, expected an integer from {} to {}", where,
                                   DumpLine(value).substr(0, 40), least, most));
  }
  return value.get<int>();
}

const Kind& FindKind(const Json& json, const std::string& where) {
  for (const Kind& kind : Kinds()) {
    if (json.is_object() && json.contains("what") && json["what"] == kind.name) return kind;
  }
  throw InvalidInput(fmt::format("{}: found {}, expected an object whose \"what\" is one of {}",
                                 where, DumpLine(json).substr(0, 80),
                                 fmt::join(NamesOf(std::span<const Kind>(Kinds())), ", ")));
}

// Throws unless the object's keys are `kind`'s, all that it requires among them.
void CheckKeys(const Kind& kind, const Json& json, const std::string& where) {
  std::set<std::string> allowed = {"what"};
  allowed.insert(kind.required.begin(), kind.required.end());
  allowed.insert(kind.optional.begin(), kind.optional.end());
  for (const auto& [key, value] : json.items()) {
    if (!allowed.contains(key)) {
      throw InvalidInput(fmt::format("{}: found \"{}\", which a case of \"{}\" does not have",
                                     where, key, kind.name));
    }
  }
  for (const std::string& key : kind.required) {
    if (!json.contains(key)) {
      throw InvalidInput(fmt::format("{}: a case of \"{}\" needs \"{}\"", where, kind.name, key));
    }
  }
}

BenchCase ReadCase(const Json& json, int vocab, const std::string& where) {
  const Kind& kind = FindKind(json, where);
  CheckKeys(kind, json, where);
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
  Runner(engine::Generator& generator, const BenchOptions& options)
      : generator_(generator), options_(options) {}

  BenchCaseResult Run(const BenchCase& work) {
    return work.what == What::kEmbed ? Embed(work) : Generate(work);
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

  BenchCaseResult Embed(const BenchCase& work) {
    if (generator_.encoder() == nullptr) {
      throw InvalidInput("a case of \"embed\" needs an encoder: give --encoder FILE");
    }
    BenchCaseResult result{.what = work.what};
    std::vector<double>& times = result.ms["embed"];
    engine::Generator::Embedding embedding;
    result.busy_cores = Repeat([&](bool measured) {
      const Stopwatch watch;
      embedding = generator_.Embed(work.text);
      if (measured) times.push_back(watch.ElapsedMs());
    });
    result.pieces = embedding.pieces_total;
    result.embedding = std::move(embedding.values);
    return result;
  }

  BenchCaseResult Generate(const BenchCase& work) {
    engine::Request request;
    request.tokens = work.tokens;
    request.max_new_tokens = work.new_tokens;
    request.stop_at_eos = false;
    std::optional<cache::View> view;
    if (work.what == What::kRecycled) {
      view = SaveInScratch(generator_, options_.scratch,
                           Tokens(work.tokens.begin(), work.tokens.begin() + work.cached));
      request.arm = engine::Arm::kRecycled;
      request.reuse.match = cache::Match::kWhole;
      request.view = &*view;
    }

    BenchCaseResult result{.what = work.what, .prompt_tokens = work.tokens.size()};
    for (const char* phase : {"ttft", "restore", "prefill", "decode"}) result.ms[phase] = {};
    std::optional<engine::Generation> first;
    result.busy_cores = Repeat([&](bool measured) {
      engine::Generation generation = generator_.Generate(request);
      Check(work, generation, first);
      if (measured) AddTimes(work, generation.timings, &result.ms);
      if (!first) first = std::move(generation);
    });
    result.reuse_depth = first->reuse_depth;
    result.restored_bytes = first->restored_bytes;
    result.tokens = first->tokens;
    return result;
  }

  void Check(const BenchCase& work, const engine::Generation& generation,
             const std::optional<engine::Generation>& first) const {
    if (generation.reuse_depth != work.cached) {
      throw Error(Error::Kind::kCheckFailed,
                  fmt::format("restored {} tokens, expected {}: is something else writing to {}?",
                              generation.reuse_depth, work.cached, options_.scratch.string()));
    }
    if (first && first->tokens != generation.tokens) {
      throw Error(Error::Kind::kCheckFailed, "two runs of the same case gave different tokens");
    }
  }

  static void AddTimes(const BenchCase& work, const engine::Timings& timings,
                       std::map<std::string, std::vector<double>>* ms) {
    (*ms)["ttft"].push_back(timings.ttft_ms);
    (*ms)["restore"].push_back(timings.restore_ms);
    (*ms)["prefill"].push_back(timings.prefill_ms);
    if (work.new_tokens > 1) (*ms)["decode"].push_back(timings.decode_ms / (work.new_tokens - 1));
  }

  engine::Generator& generator_;
  const BenchOptions& options_;
};

}  // namespace

std::vector<BenchCase> ReadBenchCases(const Json& json, int vocab, const std::string& where) {
  if (!json.is_array() || json.empty()) {
    throw InvalidInput(where + ": expected a list of one or more cases");
  }
  std::vector<BenchCase> cases;
  for (const Json& item : json) {
    cases.push_back(ReadCase(item, vocab, fmt::format("{}, case {}", where, cases.size() + 1)));
  }
  return cases;
}

BenchCasesResult RunBenchCases(engine::Generator& generator, const std::vector<BenchCase>& cases,
                               const BenchOptions& options) {
  generator.WarmUp();
  Runner runner(generator, options);
  BenchCasesResult result;
  for (const BenchCase& work : cases) {
    if (options.progress) {
      options.progress(fmt::format("case {} of {}", result.cases.size() + 1, cases.size()));
    }
    result.cases.push_back(runner.Run(work));
  }
  result.setting = DescribeSetting(generator, options);
  return result;
}

Json ToJson(const BenchCasesResult& result) {
  Json cases = Json::array();
  for (const BenchCaseResult& found : result.cases) {
    Json item = {{"ms", found.ms}, {"busy_cores", found.busy_cores}};
    for (const Kind& kind : Kinds()) {
      if (kind.what == found.what) item["what"] = kind.name;
    }
    if (found.what == What::kEmbed) {
      item["pieces"] = found.pieces;
      item["embedding"] = found.embedding;
    } else {
      item["prompt_tokens"] = found.prompt_tokens;
      item["reuse_depth"] = found.reuse_depth;
      item["restored_bytes"] = found.restored_bytes;
      item["tokens"] = found.tokens;
    }
    cases.push_back(std::move(item));
  }
  Json json = ToJson(result.setting);
  json["cases"] = cases;
  return json;
}

}  // namespace kvr::experiment

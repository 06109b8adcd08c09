#include "trace.h"

#include <spdlog/fmt/fmt.h>

#include <memory>

#include "kvr/base/error.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/schedule.h"
#include "kvr/experiment/setting_reader.h"
#include "kvr/experiment/trace_workload.h"
#include "kvr/text/special_tokens.h"

namespace kvr::experiment::workloads {
namespace {

SampleOptions ReadSample(SettingReader& reader, const std::string& where) {
  const Json none = Json::object();
  const Json* const found = reader.Find("sample");
  SettingReader sample(found == nullptr ? none : *found, where + "/sample");
  SampleOptions options;
  options.requests = static_cast<std::size_t>(
      sample.Integer("requests", std::int64_t(options.requests), 1, 100000));
  options.seed = static_cast<std::uint64_t>(
      sample.Integer("seed", 0, 0, std::numeric_limits<std::int64_t>::max()));
  options.block_tokens =
      static_cast<int>(sample.Integer("block_tokens", options.block_tokens, 1, kTraceBlockTokens));
  options.max_tokens = sample.Integer("max_tokens", options.max_tokens, 2, 1 << 20);
  options.min_turns = static_cast<std::size_t>(
      sample.Integer("min_turns", std::int64_t(options.min_turns), 1, 1000));
  sample.Finish();
  return options;
}

// What this workload can't do, which is known when a model is there.
void Check(const Config& config, const TraceWorkload& workload, const model::ArchiveInfo& info) {
  for (const engine::Reuse& reuse : config.reuses) {
    if (!reuse.policy.by_similarity) continue;
    throw InvalidInput(fmt::format(
        "{}: workload trace has tokens and no texts, which policy {} can't find; use prefix",
        config.name, reuse.policy.name));
  }
  for (const cache::Codec codec : config.codecs) {
    for (const TraceBudget& budget : workload.arithmetic.budgets) {
      (void)BlocksOf(budget, workload.trace, StoredBytesPerToken(info, codec));
    }
  }
}

// The earlier request that shares most, the first of several; none where nothing is shared.
std::optional<std::size_t> ParentOf(const ScaledSample& sample, std::size_t request) {
  const auto chain = sample.trace.Chain(request);
  std::optional<std::size_t> parent;
  std::ptrdiff_t longest = 0;
  for (const std::size_t other : sample.requests[request].sees) {
    const auto others = sample.trace.Chain(other);
    const auto differ = std::mismatch(chain.begin(), chain.end(), others.begin(), others.end());
    if (differ.first - chain.begin() > longest) {
      longest = differ.first - chain.begin();
      parent = other;
    }
  }
  return parent;
}

Prompts MakePrompts(const Config& config, const engine::PromptContext& context, const Reply&) {
  Check(config, *config.trace, context.info);
  const ScaledSample& sample = config.trace->sample;
  std::vector<Token> special;
  const text::SpecialTokens list(context.info.metadata.at("tokenizer").at("special"));
  for (const text::SpecialTokens::Entry& entry : list.entries()) special.push_back(entry.id);
  const int vocabulary = std::min(context.info.vocab, context.tokenizer.vocab_size());
  std::vector<Tokens> tokens = SampleTokens(sample, vocabulary, special);
  const std::vector<bool> is_long = LongPrompts(config);
  Prompts prompts;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const SampledRequest& request = sample.requests[i];
    const int limit = is_long[i] ? config.marks.back() : config.marks.front();
    CheckLength("request " + config.test_prompts[i].id, tokens[i].size(), limit, context.info,
                "; lower the sample's max_tokens");
    prompts.cached.push_back({.text = "", .tokens = tokens[i]});
    prompts.test.push_back({.text = "",
                            .tokens = std::move(tokens[i]),
                            .limit = limit,
                            .parent = ParentOf(sample, i),
                            .history_tokens = static_cast<std::size_t>(request.shared_tokens),
                            .sees = request.sees,
                            .expected_depth = request.expected_depth});
  }
  return prompts;
}

}  // namespace

void ReadTraceWorkload(SettingReader& reader, const std::filesystem::path& path, Config* config) {
  const std::string where = path.string() + ":";
  auto workload = std::make_shared<TraceWorkload>();
  const std::string file = reader.String("trace", std::nullopt);
  const std::vector<std::string> budgets = reader.Strings("budgets", {"1%", "3%", "10%", "30%"});
  for (const std::string& budget : budgets) {
    workload->arithmetic.budgets.push_back(ParseBudget(budget, where + "/budgets"));
  }
  workload->arithmetic.bins =
      static_cast<int>(reader.Integer("bins", workload->arithmetic.bins, 1, kMostBins));
  const SampleOptions options = ReadSample(reader, where);
  workload->trace = ReadTrace(path.parent_path() / file);
  workload->sample = MakeSample(workload->trace, options);
  for (const SampledRequest& request : workload->sample.requests) {
    const std::string id = fmt::format("r{}", request.request);
    config->cache_prompts.push_back({id, ""});
    config->test_prompts.push_back({.id = id,
                                    .group = "trace",
                                    .text = "",
                                    .session = request.session,
                                    .turn = static_cast<int>(request.turn)});
  }
  config->trace = std::move(workload);
  config->make_prompts = MakePrompts;
}

}  // namespace kvr::experiment::workloads

#include "kvr/experiment/trace_sample.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "kvr/base/error.h"
#include "kvr/base/registry.h"
#include "kvr/experiment/trace_cache.h"

namespace kvr::experiment {
namespace {

// Blocks that all requests begin with, at least one fewer than a request has where all are alike.
std::size_t CommonBlocks(const Trace& trace) {
  const auto first = trace.Chain(0);
  std::size_t common = first.size();
  std::size_t longest = first.size();
  for (std::size_t i = 1; i < trace.requests.size(); ++i) {
    const auto chain = trace.Chain(i);
    longest = std::max(longest, chain.size());
    const auto differ = std::mismatch(first.begin(), first.begin() + std::ptrdiff_t(common),
                                      chain.begin(), chain.end());
    common = static_cast<std::size_t>(differ.first - first.begin());
  }
  return std::min(common, longest - 1);
}

// The block that tells a request's session.
std::uint32_t SessionBlock(const Trace& trace, std::size_t request, std::size_t common) {
  const auto chain = trace.Chain(request);
  return chain[std::min(common, chain.size() - 1)];
}

using Session = std::vector<std::size_t>;  // its requests that fit, by time

// Those that may be drawn, by their first requests.
std::vector<Session> SessionsOf(const Trace& trace, const SampleOptions& options,
                                std::size_t common, std::size_t* too_long) {
  std::vector<std::size_t> all(trace.requests.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  const Trace scaled = Scaled(trace, all, options.block_tokens);
  std::map<std::uint32_t, Session> by_block;
  for (const std::size_t i : all) {
    if (scaled.requests[i].input_tokens > options.max_tokens) {
      ++*too_long;
    } else {
      by_block[SessionBlock(trace, i, common)].push_back(i);
    }
  }
  std::vector<Session> sessions;
  for (auto& [block, session] : by_block) {
    if (session.size() >= options.min_turns) sessions.push_back(std::move(session));
  }
  return sessions;
}

// By the seed and nothing else: std::shuffle's order is the library's own.
void Shuffle(std::mt19937_64& random, std::vector<Session>* sessions) {
  for (std::size_t left = sessions->size(); left > 1; --left) {
    std::swap((*sessions)[left - 1], (*sessions)[random() % left]);
  }
}

}  // namespace

ScaledSample MakeSample(const Trace& trace, const SampleOptions& options) {
  ScaledSample sample;
  const std::size_t common = CommonBlocks(trace);
  std::vector<Session> sessions = SessionsOf(trace, options, common, &sample.too_long);
  if (sessions.empty()) {
    throw InvalidInput(fmt::format(
        "{}: no session has {} requests of at most {} tokens, scaled to {} tokens a hash id; scale "
        "further down, or allow longer prompts or shorter sessions",
        trace.name, options.min_turns, options.max_tokens, options.block_tokens));
  }
  sample.sessions_to_draw = sessions.size();
  std::mt19937_64 random(options.seed);
  Shuffle(random, &sessions);
  std::vector<std::size_t> drawn;
  for (const Session& session : sessions) {
    if (drawn.size() >= options.requests) break;
    const std::size_t count = std::min(session.size(), options.requests - drawn.size());
    drawn.insert(drawn.end(), session.begin(), session.begin() + std::ptrdiff_t(count));
    ++sample.sessions;
  }
  std::sort(drawn.begin(), drawn.end());
  sample.trace = Scaled(trace, drawn, options.block_tokens);
  const std::vector<Served> served =
      FindNamed(kTraceRules, "infinite")->serve(sample.trace, /*blocks=*/0);
  std::map<std::uint32_t, std::int64_t> turns;
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const std::uint32_t block = SessionBlock(trace, drawn[i], common);
    SampledRequest& request = sample.requests.emplace_back();
    request.request = drawn[i];
    request.session = fmt::format("s{}", trace.blocks[block].id);
    request.turn = ++turns[block];
    request.tokens = sample.trace.requests[i].input_tokens;
    const auto shared = sample.trace.Chain(i).first(served[i].hit_blocks);
    for (const std::uint32_t part : shared) {
      request.shared_tokens += sample.trace.blocks[part].tokens;
    }
    request.expected_depth = served[i].hit_tokens;
    request.sees.resize(i);
    std::iota(request.sees.begin(), request.sees.end(), std::size_t{0});
  }
  return sample;
}

std::vector<Tokens> SampleTokens(const ScaledSample& sample, int vocabulary,
                                 const std::vector<Token>& special) {
  Tokens ordinary;
  for (Token id = 0; id < vocabulary; ++id) {
    if (std::find(special.begin(), special.end(), id) == special.end()) ordinary.push_back(id);
  }
  const Trace& trace = sample.trace;
  std::map<std::uint32_t, std::size_t> children;  // met so far, of each block
  std::vector<Tokens> tokens_of(trace.blocks.size());
  for (std::size_t i = 0; i < trace.blocks.size(); ++i) {
    const TraceBlock& block = trace.blocks[i];
    const std::size_t place = children[block.parent]++;
    if (place >= ordinary.size()) {
      throw InvalidInput(fmt::format(
          "{}: more than {} hash ids follow the same one in the sample, but the model has no more "
          "ordinary tokens to tell them apart",
          trace.name, ordinary.size()));
    }
    const std::uint64_t parent =
        block.parent == TraceBlock::kNone ? 0 : trace.blocks[block.parent].id + 1;
    const std::uint64_t start = std::mt19937_64(parent)();
    std::mt19937_64 random(block.id);
    Tokens& tokens = tokens_of[i];
    tokens.push_back(ordinary[(start % ordinary.size() + place) % ordinary.size()]);
    while (tokens.size() < block.tokens) tokens.push_back(ordinary[random() % ordinary.size()]);
  }
  std::vector<Tokens> all;
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    Tokens& tokens = all.emplace_back();
    for (const std::uint32_t block : trace.Chain(i)) {
      tokens.insert(tokens.end(), tokens_of[block].begin(), tokens_of[block].end());
    }
  }
  return all;
}

}  // namespace kvr::experiment

// A sample of a trace's requests that a small model can really run: whole sessions, scaled down.
//
// Sessions. All requests of a trace may begin with the same blocks (a system prompt). A session is
// the requests that share the first block after the longest beginning that all have in common;
// those that end with that beginning are one more. A turn is a request's place in its session, by
// time. Requests of different sessions share that beginning, and nothing else.
//
// The sample. Scaled (trace.h), a request fits when its tokens are at most `max_tokens`; the others
// are left out. Sessions with at least `min_turns` requests that fit are put in random order by the
// seed and taken whole, until there are `requests`: of the last one only so many, the first. So the
// sample has reuse, and more of it than the trace: its share of hits says nothing of the trace's.
//
// Depths. A request sees all earlier requests of the sample, as an infinite cache has them.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/experiment/trace.h"

namespace kvr::experiment {

struct SampleOptions {
  std::size_t requests = 24;
  std::uint64_t seed = 0;
  int block_tokens = 64;          // tokens of a scaled hash id: scaled by 512 over this
  std::int64_t max_tokens = 512;  // of a scaled prompt
  std::size_t min_turns = 2;      // of a session, among those that fit
};

struct SampledRequest {
  std::size_t request = 0;  // of the whole trace, from 0
  std::string session;      // "s7402", by the block that its requests share
  std::int64_t turn = 0;    // from 1, among the sampled ones of the session
  std::int64_t tokens = 0;  // scaled
  // Its first tokens that an earlier request of the sample has; that is the depth, too, but for a
  // prompt's last token, which always runs.
  std::int64_t shared_tokens = 0;
  std::int64_t expected_depth = 0;
  std::vector<std::size_t> sees;  // earlier requests of the sample, by their places in it
};

struct ScaledSample {
  Trace trace;                           // scaled; its requests are `requests`, by time
  std::vector<SampledRequest> requests;  // by time
  std::size_t sessions = 0;              // that were drawn
  std::size_t sessions_to_draw = 0;      // that might have been
  std::size_t too_long = 0;              // requests of the whole trace that do not fit
};

// Throws kInvalidInput where no session can be drawn. Cost: a few passes over the trace's requests.
[[nodiscard]] ScaledSample MakeSample(const Trace& trace, const SampleOptions& options);

// Token ids for each request of the sample: blocks are equal where their hash ids are, and differ
// from the first token on where they are not, so that two prompts agree in their shared blocks and
// no token further. A block's first token is its own among the blocks after the same one; the
// others are drawn by a generator that the hash id seeds. All are ids from 0 to `vocabulary` - 1
// that are not `special`. Throws kInvalidInput for fewer such ids than blocks after one block.
[[nodiscard]] std::vector<Tokens> SampleTokens(const ScaledSample& sample, int vocabulary,
                                               const std::vector<Token>& special);

}  // namespace kvr::experiment

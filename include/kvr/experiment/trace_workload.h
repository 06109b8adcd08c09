// The workload "trace" (docs/traces.md): arithmetic over a whole trace, in bytes of the model and
// codecs of a sweep, and a sample of it that the engine really runs.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/engine/generator.h"
#include "kvr/experiment/trace.h"
#include "kvr/experiment/trace_cache.h"
#include "kvr/experiment/trace_sample.h"
#include "kvr/model/archive.h"
#include "kvr/record/run.h"

namespace kvr::experiment {

struct TraceWorkload {
  Trace trace;
  TraceArithmetic arithmetic;  // of no model: its bytes_per_token is not set
  ScaledSample sample;
};

// Keys and values of one token as the codec stores them. Throws kInvalidInput for an encoder.
[[nodiscard]] std::uint64_t StoredBytesPerToken(const model::ArchiveInfo& info,
                                                const cache::Codec& codec);

// The arithmetic's rows for a model and each codec that it has stored_bytes_per_token for. Throws
// kInvalidInput for a budget that holds no block. Cost: as CountTrace, for each codec.
[[nodiscard]] std::vector<record::TraceRow> TraceRowsOf(const TraceWorkload& workload,
                                                        const record::ModelInfo& model);

// The depth that the engine must reach where the arithmetic, token by token, says `depth`: the
// match rule keeps whole blocks of the cache or all of them, and below min_depth it is a miss.
// Nothing under policies and rules that promise no more than what they find.
[[nodiscard]] std::optional<std::int64_t> ExpectedDepth(std::int64_t depth,
                                                        const engine::Reuse& reuse,
                                                        int block_tokens);

// What tells a sample from another: its requests' hash ids and lengths.
[[nodiscard]] Json DescribeSample(const ScaledSample& sample);

}  // namespace kvr::experiment

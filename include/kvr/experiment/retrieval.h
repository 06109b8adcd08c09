// The retrieval study: does the nearest embedding lead to the longest prefix? Queries are looked
// for among entries that are in memory alone, by every policy and rule of the config; what was
// found is held against the depth that was there, and timed. Nothing is stored or generated, so no
// model's weights are read but the encoder's.
//
// Thread safety: none within a process; between processes the run's folder is locked.
#pragma once

#include <cstdint>

#include "kvr/experiment/config.h"
#include "kvr/experiment/sweep.h"

namespace kvr::experiment {

// Throws kInvalidInput for ways of reuse that a look-up in memory does not have, and for texts with
// too few words. Returns how many look-ups the config makes. Cost: reads the texts.
// REQUIRES: config.retrieval.
[[nodiscard]] std::int64_t CheckRetrieval(const Config& config);

// Runs the study: every look-up is one line of lookups.jsonl, durable when it ends. Options, folder
// and errors as RunSweep's; steps are texts embedded and look-ups. What a broken-off study embedded
// is in embeddings.f32 until it is done.
// REQUIRES: CheckArchives and CheckRetrieval did not throw.
// Cost: an embedding for each text and, for each number of distractors and repetition, for each
// query; memory for the embeddings.
void RunRetrieval(const Config& config, const SweepOptions& options);

}  // namespace kvr::experiment

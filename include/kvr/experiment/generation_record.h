// How a generation becomes a record: the one place that says which field of a cell holds what, for
// sweeps and single runs alike.
//
// Thread safety: a function of its arguments; none on one generator or one cell at the same time.
#pragma once

#include "kvr/engine/generator.h"
#include "kvr/record/cell.h"

namespace kvr::experiment {

// Fills in what `request` and its `generation` alone decide: outcome, limits, depth, similarity,
// entry (its hash in hex), bytes, page cache, times, tokens and text. Null stays what does not
// apply: looking up and restoring in the baseline or by policy off, embedding by any other policy
// than that, restoring where nothing was. The rest of `cell` stays as it is: what it is
// (Identity), what was cut off or available, the marks, fidelity and load. Errors: none of its own.
// Cost: copies and decodes the new tokens.
void Describe(const engine::Generator& generator, const engine::Request& request,
              const engine::Generation& generation, record::Cell* cell);

}  // namespace kvr::experiment

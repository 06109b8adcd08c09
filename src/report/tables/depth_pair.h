// The depth that the embedding policy found for a prompt beside what was there, for the table and
// the figure that compare them.
#pragma once

#include "../samples.h"

namespace kvr::report {

struct DepthPair {
  Number found;      // the median over the prompt's cells
  Number by_prefix;  // what the prefix policy found under the same match rule
  Number there;      // as the cells recorded it, else by_prefix
};

inline Number RecordedDepth(const Cell& cell) {
  if (!cell.available_depth) return std::nullopt;
  return static_cast<double>(*cell.available_depth);
}

inline DepthPair DepthsOf(const PromptCells& prompt, const Variant& variant) {
  const Cells& cells = RecycledBy(prompt, variant);
  DepthPair pair;
  pair.found = MedianOf(cells, Depth);
  pair.by_prefix = MedianOf(
      RecycledBy(prompt, {"prefix", variant.match, variant.codec, {}, variant.page_cache}), Depth);
  pair.there = MedianOf(cells, RecordedDepth);
  if (!pair.there) pair.there = pair.by_prefix;
  return pair;
}

}  // namespace kvr::report

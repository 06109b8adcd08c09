// Traces made by hand and at random.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/experiment/trace.h"

namespace kvr::experiment {

// A request at `ms` with these hash ids, its last block of `last` tokens.
inline std::string TraceLine(int ms, const std::vector<int>& ids, int last = 512) {
  return Json{{"timestamp", ms},
              {"input_length", 512 * (ids.size() - 1) + static_cast<std::size_t>(last)},
              {"output_length", 7},
              {"hash_ids", ids}}
             .dump() +
         "\n";
}

// One request a second, all blocks whole.
inline Trace TraceOf(const std::vector<std::vector<int>>& requests) {
  std::string text;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    text += TraceLine(1000 * static_cast<int>(i), requests[i]);
  }
  return ParseTrace(text, "made by hand");
}

// Requests that walk down a random tree: its blocks have up to `branches` children, a prompt up to
// `deepest` blocks, and every third ends in a partial block that the same prompt alone has.
inline Trace RandomTrace(std::mt19937_64& random, int requests, int branches, int deepest) {
  std::string text;
  for (int i = 0; i < requests; ++i) {
    const auto below = [&](int limit) {
      return static_cast<int>(random() % static_cast<std::uint64_t>(limit));
    };
    std::vector<int> ids;
    int node = 0;
    for (int depth = 1 + below(deepest); depth > 0; --depth) {
      node = node * branches + 1 + below(branches);
      ids.push_back(2 * node);
    }
    const bool partial = below(3) == 0;
    if (partial) ids.back() += 1;  // an id of its own
    text += TraceLine(100 * i, ids, partial ? 1 + ids.back() * 7 % 511 : 512);
  }
  return ParseTrace(text, "drawn at random");
}

}  // namespace kvr::experiment

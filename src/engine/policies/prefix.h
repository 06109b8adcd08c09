// prefix: chain hashes walked from the root, whatever the entry.
#pragma once

#include "kvr/engine/generator.h"

namespace kvr::engine::policies {

inline cache::Plan WalkPrefix(Generator&, const Request& request, const cache::Query& query,
                              Stopwatch&, Generation&) {
  return request.view->WalkPrefix(query);
}

inline constexpr Policy kPrefix = {.name = "prefix", .by_similarity = false, .find = WalkPrefix};

}  // namespace kvr::engine::policies

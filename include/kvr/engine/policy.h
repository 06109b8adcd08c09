// Policies: how the entries are found whose keys and values are reused. A policy is one file in
// src/engine/policies/ and one line, with its include, in src/engine/policy.cc.
//
// Thread safety: constants; find as its generator.
#pragma once

#include <compare>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/clock.h"
#include "kvr/cache/view.h"

namespace kvr::engine {

class Generator;
struct Request;
struct Generation;

struct Policy {
  const char* name;
  // It compares embeddings: an encoder is needed, candidates and min_similarity mean something, and
  // embed_ms and the similarity are recorded.
  bool by_similarity;
  // Looks in request.view for what to restore; a depth of 0 is a miss. On the arm's clock: `watch`
  // is lapped into generation.timings for each phase but the look-up itself, which the caller laps.
  // On a miss generation.similarity is what this leaves there. Throws as View and Embed do. Null:
  // nothing is looked for.
  cache::Plan (*find)(Generator& generator, const Request& request, const cache::Query& query,
                      Stopwatch& watch, Generation& generation);

  static const Policy kEmbedding;  // the entries whose texts' embeddings are nearest, verified
  static const Policy kPrefix;     // chain hashes walked
  static const Policy kOff;        // everything is computed

  // By name: it stands for the rest.
  friend bool operator==(const Policy& a, const Policy& b) {
    return std::string_view(a.name) == b.name;
  }
  friend auto operator<=>(const Policy& a, const Policy& b) {
    return std::string_view(a.name) <=> b.name;
  }
};

// All of them, in the order in which messages show them.
extern const std::span<const Policy> kPolicies;

[[nodiscard]] inline const char* ToString(const Policy& policy) { return policy.name; }
// Throws kInvalidInput naming what is allowed.
[[nodiscard]] Policy PolicyFromString(std::string_view text,
                                      std::span<const Policy> registry = kPolicies);
// For whoever lists what is allowed: all of them, or those that look for something.
[[nodiscard]] std::vector<std::string> PolicyNames(std::span<const Policy> registry = kPolicies);
[[nodiscard]] std::vector<std::string> FindingPolicyNames(
    std::span<const Policy> registry = kPolicies);

}  // namespace kvr::engine

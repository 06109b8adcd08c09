#include "kvr/cache/match.h"

#include <array>

#include "kvr/base/error.h"
#include "kvr/base/registry.h"

namespace kvr::cache {

namespace {

constexpr std::uint32_t All(std::uint32_t tokens, std::uint32_t) { return tokens; }
constexpr std::uint32_t Blocks(std::uint32_t tokens, std::uint32_t block) {
  return tokens - tokens % block;
}

// name, entire_entry, whole_blocks, keep, reason
constexpr std::array kAllMatches = {
    Match{"whole", true, false, All, LimitedBy::kNotPrefix},
    Match{"token", false, false, All, LimitedBy::kDiverged},
    Match{"block", false, true, Blocks, LimitedBy::kBlockEdge},
};

}  // namespace

// These are there before any code runs, whatever the order of the program's files.
constinit const std::span<const Match> kMatches = kAllMatches;
constinit const Match Match::kWhole = kAllMatches[0];
constinit const Match Match::kToken = kAllMatches[1];
constinit const Match Match::kBlock = kAllMatches[2];

Match MatchFromString(std::string_view text, std::span<const Match> registry) {
  if (const Match* match = FindNamed(registry, text)) return *match;
  throw InvalidInput("match '" + std::string(text) + "' found, expected " + AnyOf(registry));
}

std::vector<std::string> MatchNames(std::span<const Match> registry) { return NamesOf(registry); }

const char* ToString(LimitedBy limited_by) {
  switch (limited_by) {
    case LimitedBy::kEndOfEntry:
      return "end_of_entry";
    case LimitedBy::kDiverged:
      return "diverged";
    case LimitedBy::kBlockEdge:
      return "block_edge";
    case LimitedBy::kLastToken:
      return "last_token";
    case LimitedBy::kNoCandidate:
      return "no_candidate";
    case LimitedBy::kNotPrefix:
      return "not_prefix";
    case LimitedBy::kTokenBoundary:
      return "token_boundary";
    case LimitedBy::kBelowMinimum:
      return "below_minimum";
    case LimitedBy::kEvicted:
      return "evicted";
    case LimitedBy::kCorrupt:
      return "corrupt";
    case LimitedBy::kUnreadable:
      return "unreadable";
  }
  return "unknown";
}

}  // namespace kvr::cache

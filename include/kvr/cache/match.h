// Match rules: how much of an entry may be reused of what it has in common with a prompt. A rule is
// one line in src/cache/match.cc.
//
// Thread safety: constants and pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvr::cache {

// Why the depth is not larger. Of several reasons, the one that cost tokens: a rule that cut the
// common prefix short comes before the reason why that prefix ended.
enum class LimitedBy {
  kEndOfEntry,     // all of the entry was used; the prompt goes on
  kDiverged,       // the next token of the entry is not the prompt's
  kBlockEdge,      // match=block: more tokens agreed, but not a whole block
  kLastToken,      // the whole prompt is stored; its last token has to run
  kNoCandidate,    // no entry to look at: none near enough, or none begins with the first token
  kNotPrefix,      // match=whole: an entry was found, but it is no prefix of the prompt
  kTokenBoundary,  // as diverged or not_prefix, but the entry's text is a prefix of the prompt's
                   // text and only the entry's last token differs: text and tokens disagree
  kBelowMinimum,   // the depth was below the query's minimum and was given up
  kEvicted,        // the next block is no longer stored
  kCorrupt,        // the next block failed its check and was set aside (given by Restore)
  kUnreadable,     // the next block could not be read: rights, descriptors, the disk (by Restore)
};
[[nodiscard]] const char* ToString(LimitedBy limited_by);

struct Match {
  const char* name;
  bool entire_entry;  // nothing is reused of an entry that is no token prefix of the prompt
  bool whole_blocks;  // keep() ends at block edges only, where a restart is exact on any machine
  // Of the first `tokens` of an entry, all of which agree, how many are reused. Grows with `tokens`
  // and never exceeds them.
  std::uint32_t (*keep)(std::uint32_t tokens, std::uint32_t block_tokens);
  LimitedBy reason;  // recorded where it is the rule that takes tokens away

  static const Match kWhole;  // the entire entry, if it is a token prefix of the prompt, or nothing
  static const Match kToken;  // the longest common token prefix
  static const Match kBlock;  // whole blocks of it only; never a tail

  // By name: it stands for the rest.
  friend bool operator==(const Match& a, const Match& b) {
    return std::string_view(a.name) == b.name;
  }
  friend auto operator<=>(const Match& a, const Match& b) {
    return std::string_view(a.name) <=> b.name;
  }
};

// All of them, in the order in which messages show them.
extern const std::span<const Match> kMatches;

[[nodiscard]] inline const char* ToString(const Match& match) { return match.name; }
// Throws kInvalidInput for a text that names none.
[[nodiscard]] Match MatchFromString(std::string_view text,
                                    std::span<const Match> registry = kMatches);
// For whoever lists what is allowed.
[[nodiscard]] std::vector<std::string> MatchNames(std::span<const Match> registry = kMatches);

}  // namespace kvr::cache

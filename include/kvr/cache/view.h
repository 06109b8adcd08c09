// View: an immutable picture of a cache's entries in memory, and all look-ups. A sweep's cell gets
// the view of exactly the entries that it may see; nothing stored or removed later changes it.
//
// Thread safety: const methods may run concurrently. Copies share the entries.
// Cost: memory linear in the entries' tokens and blocks; no method reads a file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kvr/base/types.h"
#include "kvr/cache/chain.h"
#include "kvr/cache/index.h"
#include "kvr/cache/match.h"

namespace kvr::cache {

// A block or tail to be restored.
struct PlannedBlock {
  Digest hash;
  std::uint32_t first = 0;   // position of its first token
  std::uint32_t stored = 0;  // tokens in the file
  std::uint32_t used = 0;    // of those, leading tokens to be reused; less than stored only in the
                             // last block
};

struct Plan {
  std::optional<Digest> entry;  // whose tokens are reused; nothing on a miss
  std::uint32_t depth = 0;      // tokens to reuse, at most the prompt's less one; 0 is a miss
  LimitedBy limited_by = LimitedBy::kNoCandidate;
  std::uint32_t compared = 0;  // entries compared with the prompt token by token
  float similarity = 0;  // embedding policy: of the entry, or on a miss of the candidate that gave
                         // the reason
  std::vector<PlannedBlock> blocks;
  Tokens tokens;  // the prompt's first `depth`; Restore compares them with the files

  // Tokens of buffer capacity that Restore needs: the last block is read whole.
  [[nodiscard]] std::uint32_t CapacityNeeded() const {
    return blocks.empty() ? 0 : blocks.back().first + blocks.back().stored;
  }
};

struct Query {
  std::span<const Token> tokens;  // the prompt
  std::string_view text;          // what they stand for; tells token_boundary from diverged
  Match match = Match::kToken;
  std::uint32_t minimum_depth = 1;  // a smaller depth is a miss, below_minimum
};

struct Candidate {
  std::uint32_t entry = 0;  // index into View::entries()
  float similarity = 0;     // cosine
};

class View {
 public:
  // `root` is the cache key's hash. Blocks in `picture` tell which are stored; an entry some of
  // whose blocks are not is usable up to the first such block.
  View(IndexPicture picture, const Digest& root, std::uint32_t block_tokens);

  // The view of these entries only. Throws kNotFound for an id that this view lacks.
  // Cost: linear in the entries' blocks.
  [[nodiscard]] View Subset(std::span<const Digest> ids) const;

  // In order of creation.
  [[nodiscard]] const std::vector<std::shared_ptr<const EntryRow>>& entries() const {
    return entries_;
  }

  // The `count` entries nearest to `embedding` (unit length, made by `encoder`) with a similarity
  // of at least `minimum`: the more similar, then the longer, then the older first. Entries
  // without an embedding or by another encoder are passed over. Throws kInvalidInput when
  // dimensions differ under one encoder.
  // Cost: one dot product per entry.
  [[nodiscard]] std::vector<Candidate> Nearest(std::span<const float> embedding,
                                               std::string_view encoder, std::size_t count,
                                               float minimum) const;

  // Embedding policy: compares each candidate with the prompt, token by token. The greatest depth
  // wins; ties go to the longer, then the older entry. On a miss the reason is that of the
  // candidate with the longest common prefix.
  [[nodiscard]] Plan LongestVerified(std::span<const Candidate> candidates,
                                     const Query& query) const;

  // Prefix policy: walks chain hashes from the root, block by block, then looks among the last
  // block's children for the longest common prefix. The depth is the greatest over all entries.
  // Where several would give it, the child that sorts first is read, which is the shortest if one
  // ends there; end_of_entry comes before token_boundary before diverged. Where blocks went
  // missing, a longer detour through another entry's tail is not looked for.
  // Cost: a SHA-256 per block; a binary search in the last block's children. Telling
  // token_boundary reads the lengths of those children that share the prefix.
  [[nodiscard]] Plan WalkPrefix(const Query& query) const;

 private:
  // A block or tail that some entry has; node 0 is the root. `depth` tokens lie up to its end.
  struct Node {
    Digest hash = {};
    std::uint32_t parent = 0;
    std::uint32_t depth = 0;
    std::span<const Token> tokens = {};        // in the tokens of `longest`
    bool stored = false;                       // it and all its ancestors are
    std::uint32_t longest = 0;                 // the longest, then oldest entry through it
    std::vector<std::uint32_t> ends = {};      // entries that end here, oldest first
    std::vector<std::uint32_t> children = {};  // by tokens
  };
  // How far a prompt agrees with an entry, or with all of them.
  struct Agreement {
    std::uint32_t common = 0;                 // tokens, from the first on
    std::uint32_t node = 0;                   // where they end, or below
    bool entire = false;                      // they are an entry's whole
    LimitedBy why = LimitedBy::kNoCandidate;  // no more agree
  };
  // What of that may be reused.
  struct Allowed {
    std::uint32_t depth = 0;
    LimitedBy limited_by = LimitedBy::kNoCandidate;
  };

  using Entries = std::vector<std::shared_ptr<const EntryRow>>;
  using Hashes = std::unordered_set<Digest, DigestHasher>;

  View(Entries entries, std::shared_ptr<const Hashes> stored, const Digest& root,
       std::uint32_t block_tokens);
  void AddNodes(std::uint32_t entry);
  // The one place where a match rule is applied.
  [[nodiscard]] Allowed Allow(const Agreement& agreement, const Query& query) const;
  [[nodiscard]] Agreement AgreementWith(std::uint32_t entry, const Query& query) const;
  // The greatest over all entries. `block`: the last block that agrees as a whole.
  [[nodiscard]] Agreement LongestAgreement(const Query& query, std::uint32_t* block) const;
  // The same for rules that take entire entries; nothing where no entry is a prefix of the prompt,
  // or all those have lost a block (`evicted`).
  [[nodiscard]] std::optional<Agreement> LongestEntire(std::uint32_t block, const Query& query,
                                                       bool* evicted) const;
  // The deepest entry that is a prefix of the prompt, at `node` or above, as its end's node.
  [[nodiscard]] std::optional<std::uint32_t> WholeEntry(std::uint32_t node, const Query& query,
                                                        bool* evicted) const;
  // Whether an entry below `node` agrees with `common` tokens of the prompt, is one longer, and
  // its text is a prefix of the prompt's.
  [[nodiscard]] bool EndsInTokenBoundary(std::uint32_t node, std::uint32_t common,
                                         const Query& query) const;
  // The first child of `node` that does not sort before `tokens`.
  [[nodiscard]] std::vector<std::uint32_t>::const_iterator FirstChild(
      const Node& node, std::span<const Token> tokens) const;
  // Restores the prompt's first `depth` tokens from `node` and its ancestors.
  [[nodiscard]] Plan MakePlan(std::uint32_t node, std::uint32_t depth, LimitedBy limited_by,
                              const Query& query) const;

  Digest root_{};
  std::uint32_t block_tokens_ = 0;
  Entries entries_;
  std::shared_ptr<const Hashes> stored_;
  std::vector<Node> nodes_;
  std::unordered_map<Digest, std::uint32_t, DigestHasher> node_of_;
};

}  // namespace kvr::cache

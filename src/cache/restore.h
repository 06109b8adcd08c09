// Private to the cache layer: a plan's blocks, from their files into a buffer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "files.h"
#include "kvr/cache/results.h"
#include "kvr/cache/view.h"

namespace kvr::cache {

struct BlockOutcome {
  enum class State {
    kNotTried,
    kRestored,
    kMissing,
    kCorrupt,
    kUnreadable
  } state = State::kNotTried;
  std::string why;          // of kCorrupt, if it is the file that is, and of kUnreadable
  std::uint64_t inode = 0;  // of the file that was found to be kCorrupt
  bool opened = false;
  std::uint64_t bytes = 0;
  std::optional<double> resident_fraction;
};

// Reads the plan's blocks into the buffer by `threads` threads at most, those of Pool::Global(),
// with all checks that Store::Restore promises; an outcome for each. Once one is bad, those behind
// it need not be tried. Damage is reported, not thrown.
[[nodiscard]] std::vector<BlockOutcome> ReadBlocks(const Files& files, const Plan& plan,
                                                   const KvBufferView& buffer, int threads);

// What the outcomes come to.
[[nodiscard]] RestoreResult ResultOf(const Plan& plan, const std::vector<BlockOutcome>& outcomes);

// As Store::DropFromPageCache.
void DropFromPageCache(const Files& files, const Plan& plan);

}  // namespace kvr::cache

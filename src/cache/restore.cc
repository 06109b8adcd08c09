#include "restore.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>

#include "folder.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/pool.h"

namespace kvr::cache {

namespace fs = std::filesystem;
using State = BlockOutcome::State;

namespace {

BlockOutcome ReadBlock(const Files& files, const Plan& plan, std::size_t at,
                       const KvBufferView& buffer) {
  const PlannedBlock& block = plan.blocks[at];
  const fs::path path = files.BlockPath(block.hash);
  BlockOutcome outcome;
  UniqueFd fd;
  try {
    fd = OpenOwnFile(path);
    outcome.opened = true;
    outcome.resident_fraction = ResidentFraction(fd.get(), path);
    const BlockHeader header = files.format().ReadHeader(fd.get(), path, block.hash);
    const Digest& parent = at == 0 ? files.key_hash() : plan.blocks[at - 1].hash;
    const auto expected = std::span(plan.tokens).subspan(block.first, block.used);
    if (header.parent != parent || header.tokens.size() != block.stored ||
        !std::ranges::equal(std::span(header.tokens).first(block.used), expected)) {
      // The file is what its name says; the plan, made from the index, is wrong about it.
      spdlog::warn("{}: the index is wrong about this block; verify the cache", path.string());
      outcome.state = State::kCorrupt;
      return outcome;
    }
    files.format().ReadPayload(fd.get(), path, header, buffer, block.first);
    outcome.bytes = header.payload_bytes;
    outcome.state = State::kRestored;
  } catch (const Error& e) {
    if (e.kind() == Error::Kind::kNotFound) {
      outcome.state = State::kMissing;
    } else if (e.kind() == Error::Kind::kCorrupt) {
      outcome.state = State::kCorrupt;
      outcome.why = e.what();
      outcome.inode = InodeOf(fd.get());
    } else {
      outcome.state = State::kUnreadable;
      outcome.why = e.what();
    }
  } catch (const std::bad_alloc&) {
    outcome.state = State::kUnreadable;
    outcome.why = path.string() + ": out of memory";
  }
  return outcome;
}

// Nothing where the file has gone since the plan was made: Restore is who reports that.
std::optional<UniqueFd> OpenIfThere(const fs::path& path) {
  if (TypeOf(path) == 0) return std::nullopt;
  try {
    return OpenOwnFile(path);
  } catch (const Error& error) {
    if (error.kind() != Error::Kind::kNotFound) throw;
    return std::nullopt;
  }
}

}  // namespace

std::vector<BlockOutcome> ReadBlocks(const Files& files, const Plan& plan,
                                     const KvBufferView& buffer, int threads) {
  std::vector<BlockOutcome> outcomes(plan.blocks.size());
  std::atomic<std::size_t> first_bad{plan.blocks.size()};
  std::mutex failure_mutex;
  std::exception_ptr failure;
  Pool::Global().For(threads, static_cast<int>(plan.blocks.size()), 1, [&](int first, int last) {
    try {
      for (auto at = static_cast<std::size_t>(first); at < static_cast<std::size_t>(last); ++at) {
        if (at >= first_bad) return;  // whatever is behind a bad one is of no use
        outcomes[at] = ReadBlock(files, plan, at, buffer);
        if (outcomes[at].state == State::kRestored) continue;
        for (std::size_t bad = first_bad; at < bad && !first_bad.compare_exchange_weak(bad, at);) {
        }
      }
    } catch (...) {
      first_bad = 0;
      const std::lock_guard guard(failure_mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  return outcomes;
}

RestoreResult ResultOf(const Plan& plan, const std::vector<BlockOutcome>& outcomes) {
  RestoreResult result{.tokens = plan.depth, .limited_by = plan.limited_by};
  const auto end_at = [&](std::size_t at, LimitedBy why) {
    result.limited_by = why;
    result.tokens = plan.blocks[at].first;
  };
  double resident_bytes = 0;
  bool residency_known = true;
  for (std::size_t at = outcomes.size(); at-- > 0;) {  // the first bad one has the last word
    const BlockOutcome& outcome = outcomes[at];
    result.blocks += outcome.state == State::kRestored ? 1 : 0;
    result.files += outcome.opened ? 1 : 0;
    result.bytes += outcome.bytes;
    residency_known &= outcome.bytes == 0 || outcome.resident_fraction.has_value();
    resident_bytes += outcome.resident_fraction.value_or(0) * static_cast<double>(outcome.bytes);
    if (outcome.state == State::kMissing) {
      ++result.missing;
      end_at(at, LimitedBy::kEvicted);
    } else if (outcome.state == State::kCorrupt) {
      ++result.corrupt;
      end_at(at, LimitedBy::kCorrupt);
    } else if (outcome.state == State::kUnreadable) {
      ++result.unreadable;
      end_at(at, LimitedBy::kUnreadable);
    }
  }
  if (result.bytes > 0 && residency_known) {
    result.resident_fraction = resident_bytes / static_cast<double>(result.bytes);
  }
  return result;
}

void DropFromPageCache(const Files& files, const Plan& plan) {
  for (const PlannedBlock& block : plan.blocks) {
    const fs::path path = files.BlockPath(block.hash);
    const std::optional<UniqueFd> fd = OpenIfThere(path);
    if (!fd) continue;
    if (const int error = ::posix_fadvise(fd->get(), 0, 0, POSIX_FADV_DONTNEED); error != 0) {
      throw IoError("cannot drop from the page cache: " + path.string(), error);
    }
  }
}

}  // namespace kvr::cache

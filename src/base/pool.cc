#include "kvr/base/pool.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace kvr {

namespace {

// Between two layers of a token lie some 10 us, between two tokens some 50.
constexpr std::chrono::microseconds kSpin{100};
// The last piece of another thread takes less than this, unless that thread has lost its core.
constexpr std::chrono::microseconds kSpinForTheLast{30};

void Pause() {
#ifdef __x86_64__
  _mm_pause();
#endif
}

// Whether `ready` came true within `limit`.
template <typename Ready>
bool SpinUntil(std::chrono::microseconds limit, const Ready& ready) {
  constexpr int kChecksBetweenClocks = 32;
  const auto end = std::chrono::steady_clock::now() + limit;
  do {
    for (int i = 0; i < kChecksBetweenClocks; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

Pool& Pool::Global() {
  // Never destroyed: its threads may wait in it while the process ends.
  static Pool* const pool = new Pool;
  return *pool;
}

Pool::~Pool() {
  stop_ = true;
  ++job_;
  job_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::Start(int threads) {
  if (static_cast<int>(threads_.size()) >= threads - 1) return;
  // Signals are for the threads that the program started itself.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  while (static_cast<int>(threads_.size()) < threads - 1) {
    threads_.emplace_back(
        [this, me = static_cast<std::uint32_t>(threads_.size()) + 1] { Loop(me); });
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Pool::Run(int threads, int count, int least, Call call, const void* work) {
  constexpr int kMostUnits = 0xffff;
  threads = std::min(threads, kMostThreads);
  std::unique_lock caller(caller_, std::defer_lock);
  if (threads <= 1 || count <= least || !caller.try_lock()) {
    if (count > 0) call(work, 0, count);
    return;
  }
  Start(threads);
  const int unit = std::max(least, count / kMostUnits + 1);
  const auto units = static_cast<std::uint32_t>((count + unit - 1) / unit);
  const auto sharers = static_cast<std::uint32_t>(threads);
  const std::uint32_t job = job_.load(std::memory_order_relaxed) + 1;
  call_.store(call, std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  count_.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
  unit_.store(static_cast<std::uint32_t>(unit), std::memory_order_relaxed);
  sharers_.store(sharers, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < sharers; ++i) {
    const std::uint32_t first = units * i / sharers, last = units * (i + 1) / sharers;
    shares_[i].left.store((std::uint64_t{job} << 32) | (first << 16) | last,
                          std::memory_order_release);
  }
  job_.store(job);
  job_.notify_all();
  Help(job, 0);
  const auto all_done = [&] { return done_.load(std::memory_order_acquire) == units; };
  if (SpinUntil(kSpinForTheLast, all_done)) return;
  for (std::uint32_t done; (done = done_.load(std::memory_order_acquire)) != units;) {
    done_.wait(done, std::memory_order_acquire);
  }
}

// Half of what is left.
bool Pool::Take(std::uint32_t job, Share& share, bool own, std::uint32_t* first,
                std::uint32_t* last) {
  std::uint64_t left = share.left.load(std::memory_order_acquire);
  for (;;) {
    *first = static_cast<std::uint32_t>(left) >> 16;
    *last = static_cast<std::uint32_t>(left) & 0xffff;
    if (left >> 32 != job || *first >= *last) return false;
    const std::uint32_t size = (*last - *first + 1) / 2;
    const std::uint64_t rest = own ? left + (std::uint64_t{size} << 16) : left - size;
    if (!share.left.compare_exchange_weak(left, rest, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
      continue;
    }
    if (own) {
      *last = *first + size;
    } else {
      *first = *last - size;
    }
    return true;
  }
}

void Pool::Help(std::uint32_t job, std::uint32_t me) {
  const Call call = call_.load(std::memory_order_relaxed);
  const void* const work = work_.load(std::memory_order_relaxed);
  const std::uint32_t count = count_.load(std::memory_order_relaxed);
  const std::uint32_t unit = unit_.load(std::memory_order_relaxed);
  const std::uint32_t sharers = sharers_.load(std::memory_order_relaxed);
  std::uint32_t mine = 0, first = 0, last = 0;
  for (std::uint32_t i = 0; i < sharers; ++i) {
    while (Take(job, shares_[(me + i) % sharers], i == 0, &first, &last)) {
      call(work, static_cast<int>(first * unit), static_cast<int>(std::min(last * unit, count)));
      mine += last - first;
    }
  }
  if (mine == 0) return;
  done_.fetch_add(mine, std::memory_order_acq_rel);
  done_.notify_all();
}

void Pool::Loop(std::uint32_t me) {
  std::uint32_t seen = 0;
  for (;;) {
    const auto news = [&] { return job_.load(std::memory_order_acquire) != seen; };
    if (!SpinUntil(kSpin, news)) job_.wait(seen, std::memory_order_acquire);
    if (stop_) return;
    const std::uint32_t job = job_.load(std::memory_order_acquire);
    if (job == seen) continue;
    seen = job;
    if (me < sharers_.load(std::memory_order_relaxed)) Help(job, me);
  }
}

}  // namespace kvr

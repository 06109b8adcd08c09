#include "kvr/base/pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <limits>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace kvr {

namespace {

// Between two layers of a token lie some 10 us, between two tokens some 50.
constexpr std::chrono::microseconds kSpin{100};
// The last piece of another thread takes less than this, unless that thread has lost its core.
constexpr std::chrono::microseconds kSpinForTheLast{30};
// To see whether a thread is on a core.
constexpr std::chrono::microseconds kStandingStill{5};
// Moving takes some 10 us.
constexpr std::chrono::milliseconds kBetweenLooks{1};

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

#ifdef __linux__

int ThisCpu() { return ::sched_getcpu(); }

// Moves a thread to one of these CPUs, from where the system may move it on as before.
void Move(pthread_t thread, const cpu_set_t& where) {
  cpu_set_t allowed;
  if (::pthread_getaffinity_np(thread, sizeof allowed, &allowed) != 0) return;
  if (::pthread_setaffinity_np(thread, sizeof where, &where) != 0) return;
  ::pthread_setaffinity_np(thread, sizeof allowed, &allowed);
}

// Threads of the whole machine that run or could; the most there can be where that is not known.
int Runnable() {
  std::array<char, 64> text{};
  const int fd = ::open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? -1 : ::read(fd, text.data(), text.size() - 1);
  if (fd >= 0) ::close(fd);
  int runnable = 0;  // 0.42 0.36 0.30 2/134 16096
  const bool known = size > 0 && std::sscanf(text.data(), "%*f %*f %*f %d/", &runnable) == 1;
  return known ? runnable : std::numeric_limits<int>::max();
}

// The CPU time of a thread, which stands still while the thread is off its core.
timespec CpuTime(pthread_t thread) {
  clockid_t clock{};
  timespec time{};
  if (::pthread_getcpuclockid(thread, &clock) == 0) ::clock_gettime(clock, &time);
  return time;
}

#else

int ThisCpu() { return -1; }

#endif

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
  shares_[0].cpu.store(ThisCpu(), std::memory_order_relaxed);
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
  while (!SpinUntil(kSpinForTheLast, all_done)) {
    const std::uint32_t done = done_.load(std::memory_order_acquire);
    if (done == units) return;
    FetchTheLast(sharers);
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
  shares_[me].at_work.store(true, std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < sharers; ++i) {
    while (Take(job, shares_[(me + i) % sharers], i == 0, &first, &last)) {
      call(work, static_cast<int>(first * unit), static_cast<int>(std::min(last * unit, count)));
      mine += last - first;
    }
  }
  shares_[me].at_work.store(false, std::memory_order_relaxed);
  if (mine == 0) return;
  done_.fetch_add(mine, std::memory_order_acq_rel);
  done_.notify_all();
}

#ifdef __linux__

// Beside a process that computes, the system tends to leave two threads of the pool on one core,
// and runs them in turn. That is as good as it gets where other processes want all cores; where
// they don't, the thread moves to a core that no other of the pool is on.
void Pool::KeepApart(std::uint32_t me) {
  Share& mine = shares_[me];
  const int here = ThisCpu();
  mine.cpu.store(here, std::memory_order_relaxed);
  const auto other_here = [&](std::uint32_t i) {
    return shares_[i].cpu.load(std::memory_order_relaxed) == here;
  };
  std::uint32_t other = 0;
  while (other < me && !other_here(other)) ++other;
  if (other == me) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < mine.next_look) return;
  mine.next_look = now + kBetweenLooks;

  cpu_set_t allowed, free;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  const std::uint32_t sharers = sharers_.load(std::memory_order_relaxed);
  if (Runnable() - static_cast<int>(sharers) >= CPU_COUNT(&allowed)) return;
  free = allowed;
  for (std::uint32_t i = 0; i < sharers; ++i) {
    const int cpu = shares_[i].cpu.load(std::memory_order_relaxed);
    if (cpu >= 0) CPU_CLR(cpu, &free);
  }
  if (CPU_COUNT(&free) > 0) Move(::pthread_self(), free);
  mine.cpu.store(ThisCpu(), std::memory_order_relaxed);
}

// Brings the one thread that the caller still waits for to the caller's core, which is about to be
// idle, if it has lost its own. Otherwise it would wait for a time slice of whoever took that: some
// 4 ms, as long as a hundred regions.
void Pool::FetchTheLast(std::uint32_t sharers) {
  std::uint32_t last = 0;
  for (std::uint32_t i = 1; i < sharers; ++i) {
    if (!shares_[i].at_work.load(std::memory_order_relaxed)) continue;
    if (last != 0) return;
    last = i;
  }
  const int here = ThisCpu();
  if (last == 0 || here < 0) return;
  const pthread_t thread = threads_[last - 1].native_handle();
  const timespec before = CpuTime(thread);
  if (SpinUntil(kStandingStill,
                [&] { return !shares_[last].at_work.load(std::memory_order_relaxed); })) {
    return;
  }
  const timespec after = CpuTime(thread);
  if (after.tv_sec != before.tv_sec || after.tv_nsec != before.tv_nsec) return;
  cpu_set_t caller;
  CPU_ZERO(&caller);
  CPU_SET(here, &caller);
  Move(thread, caller);
}

#else

void Pool::KeepApart(std::uint32_t) {}
void Pool::FetchTheLast(std::uint32_t) {}

#endif

void Pool::Loop(std::uint32_t me) {
  std::uint32_t seen = 0;
  for (;;) {
    const auto news = [&] { return job_.load(std::memory_order_acquire) != seen; };
    if (!SpinUntil(kSpin, news)) job_.wait(seen, std::memory_order_acquire);
    if (stop_) return;
    const std::uint32_t job = job_.load(std::memory_order_acquire);
    if (job == seen) continue;
    seen = job;
    if (me >= sharers_.load(std::memory_order_relaxed)) continue;
    KeepApart(me);
    Help(job, me);
  }
}

}  // namespace kvr

#include "kvr/base/pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>

namespace kvr {
namespace {

TEST(PoolTest, EachPieceIsDoneOnceForAnyNumberOfThreads) {
  Pool pool;
  for (int round = 0; round < 300; ++round) {
    for (const int threads : {0, 1, 2, 3, 5}) {
      for (const int count : {0, 1, 2, 7, 64}) {
        for (const int least : {1, 3, 64}) {
          std::vector<int> done(
              static_cast<std::size_t>(count));  // not atomic: each has one writer
          pool.For(threads, count, least, [&](int i, int last) {
            for (; i < last; ++i) ++done[static_cast<std::size_t>(i)];
          });
          ASSERT_EQ(done, std::vector<int>(static_cast<std::size_t>(count), 1)) << threads;
        }
      }
    }
  }
}

TEST(PoolTest, OthersTakePartAndTheRestIsNotWaitedForByADelayedOne) {
  Pool pool;
  std::mutex mutex;
  std::set<std::thread::id> who;
  std::atomic<int> delayed_one_did = 0;
  const auto caller = std::this_thread::get_id();
  pool.For(2, 200, 1, [&](int first, int last) {
    {
      const std::lock_guard guard(mutex);
      who.insert(std::this_thread::get_id());
    }
    const bool other = std::this_thread::get_id() != caller;
    for (; first < last; ++first) {
      std::this_thread::sleep_for(std::chrono::milliseconds(other ? 8 : 1));
      if (other) ++delayed_one_did;
    }
  });
  EXPECT_EQ(who.size(), 2u);
  EXPECT_LT(delayed_one_did, 75);  // of 200: fixed halves would have given it 100
}

TEST(PoolTest, WhoeverFindsItTakenWorksAlone) {
  Pool pool;
  std::atomic<int> inner = 0;
  pool.For(2, 4, 1, [&](int first, int last) {
    pool.For(2, 8 * (last - first), 1, [&](int i, int end) { inner += end - i; });
  });
  EXPECT_EQ(inner, 32);
  std::atomic<int> both = 0;
  const auto many = [&] {
    for (int i = 0; i < 2000; ++i)
      pool.For(3, 5, 1, [&](int first, int last) { both += last - first; });
  };
  std::thread other(many);
  many();
  other.join();
  EXPECT_EQ(both, 20000);
}

TEST(PoolTest, AChildProcessDoesItsWork) {
  Pool pool;
  std::atomic<int> done = 0;
  pool.For(3, 50, 1, [&](int first, int last) { done += last - first; });
  const pid_t child = ::fork();
  if (child == 0) {
    pool.For(3, 50, 1, [&](int first, int last) { done += last - first; });
    ::_exit(done == 100 ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

#ifdef __linux__
TEST(PoolTest, BesideBusyThreadsItsOwnMayStillRunWhereTheyMightBefore) {
  cpu_set_t mine;
  ASSERT_EQ(::sched_getaffinity(0, sizeof mine, &mine), 0);
  std::atomic<bool> stop = false;
  std::vector<std::thread> busy;
  for (int i = 0; i < 3; ++i) {
    busy.emplace_back([&] {
      while (!stop) {
      }
    });
  }
  Pool pool;
  std::atomic<int> elsewhere = 0, done = 0;
  const auto begin = std::chrono::steady_clock::now();
  do {
    pool.For(3, 30, 1, [&](int first, int last) {
      cpu_set_t here;
      if (::sched_getaffinity(0, sizeof here, &here) != 0 || CPU_EQUAL(&here, &mine) == 0) {
        ++elsewhere;
      }
      for (; first < last; ++first) {
        for (volatile int turn = 0; turn < 20000;) turn = turn + 1;
        ++done;
      }
    });
  } while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(400));
  stop = true;
  for (std::thread& thread : busy) thread.join();
  EXPECT_EQ(done % 30, 0);
  // While one is moved it may be held where it goes for a few us.
  EXPECT_LT(elsewhere, std::max(3, done / 100));
}
#endif

// Threads that have fallen asleep wake.
TEST(PoolTest, WorkAfterAPauseIsDone) {
  Pool pool;
  for (int i = 0; i < 20; ++i) {
    std::atomic<int> done = 0;
    pool.For(4, 16, 1, [&](int first, int last) { done += last - first; });
    EXPECT_EQ(done, 16);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace
}  // namespace kvr

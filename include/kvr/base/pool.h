// The threads that compute. Each has its share of the work, from which it takes at the front while
// the others, done with theirs, take at the back: a thread that the system has taken off its core
// delays what it has begun and no more, and the caller waits for nothing else. Threads spin for a
// moment and then sleep, since a core that nobody spins on is where the system lets a delayed
// thread go on. On Linux they also see to it that two of them don't share a core while another
// process has one to itself, and that the last one is not kept from a core while its caller's
// idles.
//
// Thread safety: callable from any thread; one caller has the pool at a time. Errors: none but
// std::system_error where no thread can be started. Cost: as For says.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvr {

// Safe to use from any thread. One caller has the pool at a time; another one that comes meanwhile
// does all of its work alone. A child process after fork() has none of its parent's threads, and
// needs none: whatever nobody takes, the caller does.
class Pool {
 public:
  // The process's own: it lives until the process ends.
  [[nodiscard]] static Pool& Global();

  Pool() = default;
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls work(first, last) for stretches that together are 0 .. count - 1, on the calling thread
  // and up to `threads` - 1 others, and returns when all have returned; what they wrote is then
  // visible to the caller. No stretch is cut below `least`. REQUIRES: work throws nothing, and
  // doesn't care who computes or in which order. Costs about 1 us where the threads are awake.
  template <typename Work>
  void For(int threads, int count, int least, const Work& work) {
    Run(
        threads, count, least,
        [](const void* at, int first, int last) { (*static_cast<const Work*>(at))(first, last); },
        &work);
  }

 private:
  using Call = void (*)(const void* work, int first, int last);

  // What nobody has begun of one thread's share, in units, beside the number of its job. Within a
  // job it only shrinks, and a job ends with all shares empty: so whoever exchanges it has read the
  // other members of that same job.
  struct alignas(64) Share {
    std::atomic<std::uint64_t> left = 0;  // job << 32 | first << 16 | last
    std::atomic<int> cpu = -1;            // where the thread began its last job
    std::atomic<bool> at_work = false;
    std::chrono::steady_clock::time_point next_look;  // the thread's own
  };
  static constexpr int kMostThreads = 1024;

  void Run(int threads, int count, int least, Call call, const void* work);
  void Start(int threads);
  void Loop(std::uint32_t me);
  void KeepApart(std::uint32_t me);
  void FetchTheLast(std::uint32_t sharers);
  void Help(std::uint32_t job, std::uint32_t me);
  bool Take(std::uint32_t job, Share& share, bool own, std::uint32_t* first, std::uint32_t* last);

  std::mutex caller_;  // held while a job runs
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_ = false;
  std::array<Share, kMostThreads> shares_;

  // The job at hand.
  alignas(64) std::atomic<Call> call_ = nullptr;
  std::atomic<const void*> work_ = nullptr;
  std::atomic<std::uint32_t> count_ = 0;
  std::atomic<std::uint32_t> unit_ = 1;
  std::atomic<std::uint32_t> sharers_ = 1;           // threads, the caller among them
  alignas(64) std::atomic<std::uint32_t> job_ = 0;   // its number: what sleeping threads wait for
  alignas(64) std::atomic<std::uint32_t> done_ = 0;  // units
};

}  // namespace kvr

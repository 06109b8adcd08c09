// Time as measured (steady) and as shown (UTC).
//
// Thread safety: a Stopwatch belongs to one thread; the functions may be called from any. Errors:
// none. Cost: a reading of the clock, tens of nanoseconds.
#pragma once

#include <chrono>
#include <string>

namespace kvr {

// Starts when built. Milliseconds by the steady clock.
class Stopwatch {
 public:
  [[nodiscard]] double ElapsedMs() const {
    return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
  }
  // The time since the start or the last lap; starts the next lap.
  double LapMs() {
    const Clock::time_point now = Clock::now();
    const double ms = std::chrono::duration<double, std::milli>(now - lap_).count();
    lap_ = now;
    return ms;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  Clock::time_point lap_ = start_;
};

// Seconds since 1970-01-01T00:00:00Z.
[[nodiscard]] std::int64_t UnixSeconds();
// "2026-01-31T12:34:56Z".
[[nodiscard]] std::string UtcTimestamp(std::int64_t unix_seconds);

}  // namespace kvr

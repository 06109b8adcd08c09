#include "kvr/base/clock.h"

#include <ctime>

namespace kvr {

std::int64_t UnixSeconds() { return static_cast<std::int64_t>(std::time(nullptr)); }

std::string UtcTimestamp(std::int64_t unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace kvr

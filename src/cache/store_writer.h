// Private to the store: whoever changes it holds one of these.
#pragma once

#include "kvr/cache/store.h"

namespace kvr::cache {

// Microseconds since 1970, by the system's clock.
[[nodiscard]] std::int64_t NowUs();

// Holds the mutex and the lock file: no other thread or process changes the store meanwhile.
class Store::Writer {
 public:
  // Throws kResource when another process keeps the lock longer than `timeout_ms`, kInterrupted,
  // kIo when the store is read-only.
  Writer(Store* store, int timeout_ms);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

 private:
  std::unique_lock<std::mutex> guard_;
  int fd_;
};

}  // namespace kvr::cache

// Private to the model layer: large tensors in huge pages, where the system grants them. Fresh
// memory costs a fault for each page, and reading it a table walk: 512 times fewer of both.
#pragma once

#include <c10/core/Allocator.h>

namespace kvr::model {

// While it lives, libtorch takes tensors of 1 MB or more from the system, a mapping each. Meant for
// what stays: weights, the key/value buffer. Use by one thread at a time.
class HugePages {
 public:
  HugePages();
  ~HugePages();
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

 private:
  c10::Allocator* const before_;
};

}  // namespace kvr::model

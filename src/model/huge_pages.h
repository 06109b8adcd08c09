// Memory for what is read from end to end again and again.
#pragma once

#include <cstddef>
#include <memory>

namespace kvr::model {

// At least `bytes` of zeros, in huge pages where the kernel grants them: weights and keys and
// values stream up to half as fast again from them as from small ones. Nothing is written, so pages
// that nobody touches take no room. Throws std::bad_alloc.
std::shared_ptr<std::byte> HugePages(std::size_t bytes);

}  // namespace kvr::model

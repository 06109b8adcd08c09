#include "huge_pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace kvr::model {

std::shared_ptr<std::byte> HugePages(std::size_t bytes) {
  constexpr std::size_t kPage = std::size_t{2} << 20;
  const std::size_t mapped = bytes + kPage;
  void* const start =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  const std::size_t skipped = (kPage - reinterpret_cast<std::uintptr_t>(start) % kPage) % kPage;
  std::byte* const aligned = static_cast<std::byte*>(start) + skipped;
  (void)::madvise(aligned, bytes, MADV_HUGEPAGE);  // a wish: without them all works, only slower
  return {aligned, [start, mapped](std::byte*) { ::munmap(start, mapped); }};
}

}  // namespace kvr::model

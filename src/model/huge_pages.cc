#include "huge_pages.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>

namespace kvr::model {

namespace {

constexpr std::size_t kLeast = std::size_t{1} << 20;
constexpr std::size_t kPage = std::size_t{2} << 20;

struct Mapping {
  void* start;
  std::size_t bytes;
};

void Unmap(void* context) {
  const std::unique_ptr<Mapping> mapping(static_cast<Mapping*>(context));
  ::munmap(mapping->start, mapping->bytes);
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes < kLeast) return c10::GetDefaultCPUAllocator()->allocate(bytes);
    auto mapping = std::make_unique<Mapping>(Mapping{nullptr, bytes + kPage});
    mapping->start =
        ::mmap(nullptr, mapping->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping->start == MAP_FAILED) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(mapping->start);
    void* const data = static_cast<std::byte*>(mapping->start) + (kPage - address % kPage) % kPage;
    // A wish: without huge pages everything works, a little slower.
    (void)::madvise(data, bytes, MADV_HUGEPAGE);
    return {data, mapping.release(), Unmap, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

Allocator allocator;

}  // namespace

HugePages::HugePages() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(&allocator); }

HugePages::~HugePages() { c10::SetCPUAllocator(before_); }

}  // namespace kvr::model

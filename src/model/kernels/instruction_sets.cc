#include "instruction_sets.h"

#include <vector>

#ifdef __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kvr::model::kernels {

namespace {

#ifdef __x86_64__

// Tiles are state of 8 kB a thread, which a process must ask Linux (5.16 and later) for.
bool TilesGranted() {
  constexpr unsigned kBf16 = 1U << 22, kTile = 1U << 24, kInt8 = 1U << 25;  // CPUID 7.0, EDX
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kBf16) == 0 || (edx & kTile) == 0 || (edx & kInt8) == 0) return false;
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of <asm/prctl.h>
  constexpr int kTileData = 18;               // the number of the state
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<const Kernels*> Find() {
  std::vector<const Kernels*> found;
  // F16C too, which every CPU with AVX2 has.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  if (avx512 && TilesGranted()) found.push_back(&kAmx);
  if (avx512) found.push_back(&kAvx512);
  if (avx2) found.push_back(&kAvx2);
  return found;
}

#else

std::vector<const Kernels*> Find() { return {}; }

#endif

}  // namespace

std::span<const Kernels* const> Supported() {
  static const std::vector<const Kernels*> found = Find();
  return found;
}

}  // namespace kvr::model::kernels

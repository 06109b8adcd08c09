#include "kvr/experiment/environment.h"

#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string_view>

#include "build_facts.h"
#include "git_state.h"
#include "kvr/base/cores.h"
#include "kvr/experiment/machine_facts.h"
#include "kvr/model/machine.h"

namespace kvr::experiment {
namespace {

constexpr std::string_view kCommit = KVR_COMMIT;

Json Known(const std::string& text) {
  return text.empty() || text == "unknown" ? Json(nullptr) : Json(text);
}

Json Libraries(const model::Runtime& runtime) {
  Json libraries = {{"libtorch", Known(runtime.libtorch_version)},
                    {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100,
                                        FMT_VERSION % 100)}};
  for (const Library& library : kLibraries) libraries[library.name] = Known(library.version);
  return libraries;
}

}  // namespace

std::string VersionAndCommit() {
  return std::string(kVersion) + " (" + (kCommit.empty() ? "unknown" : std::string(kCommit)) + ")";
}

Json DescribeEnvironment() {
  const model::Runtime runtime = model::DescribeRuntime();
  utsname system{};
  const bool have_system = ::uname(&system) == 0;
  struct sysinfo memory {};
  const bool have_memory = ::sysinfo(&memory) == 0;
  std::array<double, 3> load{};
  const bool have_load = ::getloadavg(load.data(), 3) == 3;
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  const Cores cores = UsableCores();
  Json environment = {
      {"cpu_model", Known(runtime.cpu_model)},
      {"instruction_set", Known(runtime.instruction_set)},
      {"threads", runtime.threads},
      {"cpus", online > 0 ? Json(online) : Json(nullptr)},
      {"usable_cores", cores.usable},
      {"cores_limited_by", cores.limit},
      {"libtorch_version", Known(runtime.libtorch_version)},
      {"host", Known(system.nodename)},
      {"kernel", Known(have_system ? std::string(system.sysname) + " " + system.release : "")},
      {"memory_bytes",
       have_memory ? Json(std::uint64_t{memory.totalram} * memory.mem_unit) : Json(nullptr)},
      {"load_average", have_load ? Json(load) : Json(nullptr)},
      {"commit", Known(std::string(kCommit))},
      {"dirty", kCommit.empty() ? Json(nullptr) : Json(kCommit.ends_with("-dirty"))},
      {"version", kVersion},
      {"build_type", Known(kBuildType)},
      {"compiler", {{"name", Known(kCompiler)}, {"version", Known(kCompilerVersion)}}},
      {"libraries", Libraries(runtime)}};
  environment.update(DescribeMachine());
  return environment;
}

Json DescribeModel(engine::Generator& generator) {
  const model::ArchiveInfo& info = generator.info();
  return {{"name", info.name},
          {"precision", info.precision},
          {"fingerprint", info.fingerprint},
          {"random_weights", info.random_weights},
          {"block_tokens", generator.language_model().block_tokens()}};
}

namespace {

// The kernel's record of the most that was resident, set back to what is (proc(5), clear_refs).
void ForgetPeakMemory() { std::ofstream("/proc/self/clear_refs") << "5"; }

std::optional<std::int64_t> PeakMemoryBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::int64_t kib = 0;
    if (std::sscanf(line.c_str(), "VmHWM: %" SCNd64 " kB", &kib) == 1) return kib * 1024;
  }
  return std::nullopt;
}

}  // namespace

LoadMeter::LoadMeter() {
  ForgetPeakMemory();
  begin_ = Now();
  watch_ = Stopwatch();
}

LoadMeter::Counters LoadMeter::Now() {
  // "cpu" and ticks since the start: user, nice, system, idle, iowait, irq, softirq, steal.
  std::ifstream stat("/proc/stat");
  std::string name;
  std::array<double, 8> ticks{};
  stat >> name;
  for (double& value : ticks) stat >> value;
  Counters counters;
  counters.known = stat.good() && name == "cpu";
  const double tick_ms = 1000.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  counters.busy_ms = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * tick_ms;
  counters.steal_ms = ticks[7] * tick_ms;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  for (const timeval& time : {usage.ru_utime, usage.ru_stime}) {
    counters.own_ms +=
        static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  }
  return counters;
}

LoadMeter::Load LoadMeter::Measure() const {
  Load load{.wall_ms = watch_.ElapsedMs()};
  const Counters end = Now();
  load.peak_memory_bytes = PeakMemoryBytes();
  if (begin_.known && end.known) {
    load.other_cpu_ms = std::max(0.0, end.busy_ms - begin_.busy_ms - (end.own_ms - begin_.own_ms));
    load.steal_ms = std::max(0.0, end.steal_ms - begin_.steal_ms);
  }
  return load;
}

}  // namespace kvr::experiment

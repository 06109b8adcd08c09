#include "kvr/experiment/environment.h"

#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <array>
#include <cstdlib>

#include "kvr/model/runtime.h"

namespace kvr::experiment {

Json DescribeEnvironment() {
  const model::Runtime runtime = model::DescribeRuntime();
  utsname system{};
  ::uname(&system);
  struct sysinfo memory {};
  ::sysinfo(&memory);
  std::array<double, 3> load{};
  const bool have_load = ::getloadavg(load.data(), 3) == 3;
  return {{"cpu_model", runtime.cpu_model},
          {"instruction_set", runtime.instruction_set},
          {"threads", runtime.threads},
          {"libtorch_version", runtime.libtorch_version},
          {"host", system.nodename},
          {"kernel", std::string(system.sysname) + " " + system.release},
          {"memory_bytes", static_cast<std::uint64_t>(memory.totalram) * memory.mem_unit},
          {"load_average", have_load ? Json(load) : Json(nullptr)},
          {"commit", KVR_COMMIT},
          {"version", KVR_VERSION},
          {"build_type", KVR_BUILD_TYPE}};
}

}  // namespace kvr::experiment

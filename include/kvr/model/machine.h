// What of the machine and of libtorch decides a result's last bit: part of the cache key.
//
// Thread safety: callable from any thread once SetUpRuntime has returned. Errors: none; what cannot
// be found out is "unknown". Cost: reads /proc/cpuinfo.
#pragma once

#include <string>

namespace kvr::model {

struct Runtime {
  std::string cpu_model;        // as /proc/cpuinfo names it
  std::string instruction_set;  // in use: "AVX512+AMX", "AVX512", "AVX2", "DEFAULT"
  int threads = 0;
  std::string libtorch_version;
};

[[nodiscard]] Runtime DescribeRuntime();

}  // namespace kvr::model

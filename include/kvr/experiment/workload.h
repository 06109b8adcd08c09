// Workloads: what prompts a sweep caches and tests. A workload is one file in
// src/experiment/workloads/ and one line in src/experiment/workload.cc.
//
// Thread safety: constants; read is a function of its arguments.
#pragma once

#include <filesystem>
#include <span>

namespace kvr::experiment {

class SettingReader;
struct Config;

struct Workload {
  const char* name;  // "workload" in a config
  // Takes its settings from the config at `path` and fills in cache_prompts, test_prompts,
  // control_groups and, where prompts are more than their texts, make_prompts; or retrieval, of a
  // study without prompts. Throws kInvalidInput naming the place, kNotFound for a missing file.
  // Cost: reads the files that the config names.
  void (*read)(SettingReader& reader, const std::filesystem::path& path, Config* config);
};

// All of them, in the order in which messages show them.
extern const std::span<const Workload> kWorkloads;

}  // namespace kvr::experiment

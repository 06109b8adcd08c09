// "control": prompts that share nothing with what is cached, where recycling must take nothing.
#pragma once

#include "pairs.h"

namespace kvr::experiment::workloads {

// As pairs, with every group a control group.
inline void ReadControl(SettingReader& reader, const std::filesystem::path& path, Config* config) {
  ReadPrompts(reader, path, config);
  if (const Json* groups = reader.Find("control_groups")) {
    reader.Fail("control_groups", *groups, "none: every group of workload control is one");
  }
  for (const TestPrompt& prompt : config->test_prompts) {
    if (std::ranges::find(config->control_groups, prompt.group) == config->control_groups.end()) {
      config->control_groups.push_back(prompt.group);
    }
  }
  reader.Number("margin", 0.03, 0.001, 1);  // the report's
  config->json["control_groups"] = config->control_groups;
}

inline constexpr Workload kControl = {"control", ReadControl};

}  // namespace kvr::experiment::workloads

// "shared-prefix": one long instruction, block of examples or document, and many questions about
// it. A document is cached once; each question is a test prompt that begins with it.
#pragma once

#include "pairs.h"

namespace kvr::experiment::workloads {

inline void ReadSharedPrefix(SettingReader& reader, const std::filesystem::path& path,
                             Config* config) {
  const std::string joint = reader.String("joint", "\n\n");
  const std::vector<std::string> asked_of_all = reader.Strings("questions", {});
  ForEachPrompt(
      reader, path, "documents",
      [&](SettingReader& document, const std::string& id, const std::string& text) {
        std::vector<std::string> questions = document.Strings("questions", {});
        questions.insert(questions.end(), asked_of_all.begin(), asked_of_all.end());
        if (questions.empty()) {
          throw InvalidInput(path.string() + ":/documents: " + id +
                             " has no \"questions\", and there are none for all documents");
        }
        config->cache_prompts.push_back({id, text});
        const std::string group = document.String("group", "all");
        for (std::size_t i = 0; i < questions.size(); ++i) {
          config->test_prompts.push_back({.id = id + "/" + std::to_string(i + 1),
                                          .group = group,
                                          .text = text + joint + questions[i],
                                          .session = id});
        }
      });
}

inline constexpr Workload kSharedPrefix = {"shared-prefix", ReadSharedPrefix};

}  // namespace kvr::experiment::workloads

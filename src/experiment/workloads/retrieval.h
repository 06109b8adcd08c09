// "retrieval": no prompts but queries among many entries, for the study of how they are found
// (retrieval.h). Nothing is generated.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kvr/experiment/config.h"
#include "kvr/experiment/setting_reader.h"
#include "kvr/experiment/workload.h"

namespace kvr::experiment::workloads {

// A shortest query is cut in four.
inline constexpr int kFewestWords = 8;

inline WordRange ReadWordRange(SettingReader& reader, const char* key, WordRange fallback) {
  const Json* const value = reader.Find(key);
  if (value == nullptr) return fallback;
  const std::vector<int> ends = reader.Integers(key, 0, kFewestWords, 100'000);
  if (ends.size() > 2 || ends.front() > ends.back()) {
    reader.Fail(key, *value, "one number of words, or the least and the greatest");
  }
  return {ends.front(), ends.back()};
}

inline void ReadRetrieval(SettingReader& reader, const std::filesystem::path& path,
                          Config* config) {
  RetrievalSettings settings;
  for (const std::string& file : reader.Strings("texts", {}, /*required=*/true)) {
    settings.texts.push_back(path.parent_path() / file);
  }
  settings.distractors = reader.Integers("distractors", 1000, 1, 1'000'000);
  std::sort(settings.distractors.begin(), settings.distractors.end());
  settings.distractor_words = ReadWordRange(reader, "distractor_words", {8, 64});
  settings.queries = static_cast<int>(reader.Integer("queries", 40, 1, 10'000));
  settings.query_words = ReadWordRange(reader, "query_words", {24, 768});
  settings.preamble_words = static_cast<int>(reader.Integer("preamble_words", 0, 0, 100'000));
  for (const char* key :
       {"warmups", "codecs", "page_cache", "max_new_tokens", "long_prompts", "temperature", "top_k",
        "top_p", "stop_at_eos", "template", "truncate", "device"}) {
    if (const Json* const value = reader.Find(key)) {
      reader.Fail(key, *value, "none with workload \"retrieval\", which generates nothing");
    }
  }
  if (config->encoder.empty()) {
    (void)reader.Need("encoder", "an archive: workload \"retrieval\" needs one");
  }
  config->retrieval = std::move(settings);
}

inline constexpr Workload kRetrieval = {"retrieval", ReadRetrieval};

}  // namespace kvr::experiment::workloads

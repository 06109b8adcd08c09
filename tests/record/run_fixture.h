// Run folders made by hand, as docs/results_format.md has them.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/record/run.h"

namespace kvr::record {

namespace fs = std::filesystem;

// A whole line as the format's document gives it, not as ToJson() would write it.
inline Json Line(const Json& changes) {
  Json line = Json::parse(R"({
    "schema": 1, "model": "tiny", "precision": "fp32", "workload": "extends", "prompt_id": "t1",
    "repetition": 0, "arm": "baseline", "schedule": "block", "control": false, "policy": "off",
    "match": null, "codec": null, "outcome": "off", "limited_by": null, "exact_claimed": false,
    "prompt_tokens": 100, "reuse_depth": 0, "similarity": null, "entry": null, "tier": null,
    "page_cache": null, "restored_bytes": 0, "embed_ms": 0.0, "lookup_ms": 0.0, "restore_ms": 0.0,
    "prefill_ms": 90.0, "ttft_ms": 100.0, "decode_ms": 20.0, "total_ms": 120.0, "save_ms": null,
    "new_tokens": 3, "full": true, "tokens": [5, 6, 7], "text": "five six seven",
    "truncated_tokens": 0, "fidelity": null})");
  line.update(changes);
  return line;
}

inline Json Base(const char* prompt, int repetition, double ttft_ms,
                 const Json& changes = Json::object()) {
  Json line = Line({{"prompt_id", prompt},
                    {"repetition", repetition},
                    {"prefill_ms", ttft_ms},
                    {"ttft_ms", ttft_ms},
                    {"total_ms", ttft_ms + 20}});
  line.update(changes);
  return line;
}

inline Json Free(const char* prompt, double ttft_ms) {
  return Base(prompt, 0, ttft_ms,
              {{"schedule", "free"},
               {"full", false},
               {"decode_ms", nullptr},
               {"total_ms", nullptr},
               {"new_tokens", 1},
               {"tokens", {5}}});
}

inline const Json kSame = {
    {"exact", true},         {"compared_tokens", 3}, {"first_divergence", nullptr},
    {"kl_mean", 0.0},        {"kl_max", 0.0},        {"max_abs_logit_diff", 0.0},
    {"top1", 1.0},           {"cosine", 1.0},        {"rouge_l", 1.0},
    {"semantic", "measured"}};

inline Json Recycled(const char* prompt, int repetition, double ttft_ms, int depth,
                     const Json& changes = Json::object()) {
  Json line = Base(prompt, repetition, ttft_ms,
                   {{"arm", "recycled"},
                    {"policy", "embedding"},
                    {"match", "token"},
                    {"codec", "fp32"},
                    {"outcome", depth > 0 ? "hit" : "miss"},
                    {"limited_by", depth > 0 ? "end_of_entry" : "no_candidate"},
                    {"exact_claimed", true},
                    {"reuse_depth", depth},
                    {"embed_ms", 3.0},
                    {"lookup_ms", 1.0},
                    {"prefill_ms", ttft_ms - 4},
                    {"fidelity", kSame}});
  line.update(changes);
  return line;
}

inline Json WithFidelity(const Json& changes) {
  Json fidelity = kSame;
  fidelity.update(changes);
  return {{"fidelity", fidelity}};
}

inline Json Description() {
  return Json::parse(R"({
    "schema": 1, "name": "toy", "config": {"control_groups": ["unrelated"], "anything": [1]},
    "environment": {"cpu_model": "Testium 2", "instruction_set": "avx512", "threads": 2,
                    "libtorch_version": "2.13.0", "host": "h", "commit": "abc123",
                    "build_type": "Release", "load_average": [0.5, 0.4, 0.3]},
    "models": [{"name": "tiny", "fingerprint": "00", "precision": "fp32", "random_weights": false,
                "probe": {"exact": true, "cuts": 77}, "kv_bytes_per_token": 1000,
                "free_chunk_tokens": 256}],
    "fill": [{"model": "tiny", "precision": "fp32", "entry": "p1", "tokens": 60, "prefill_ms": 50,
              "save_ms": 25.0, "bytes": 61000, "new_blocks": 1, "shared_blocks": 0},
             {"model": "tiny", "precision": "fp32", "entry": "p2", "tokens": 40, "prefill_ms": 40,
              "save_ms": 15.0, "bytes": 19000, "new_blocks": 0, "shared_blocks": 1}],
    "started": "2026-01-31T12:00:00Z", "finished": "2026-01-31T12:04:00Z"})");
}

class RunTest : public ::testing::Test {
 protected:
  using Run = record::Run;  // not testing::Test::Run

  RunTest() {
    std::string pattern = (fs::temp_directory_path() / "kvr_report_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~RunTest() override { fs::remove_all(root_); }

  fs::path WriteText(const std::string& description, const std::string& cells,
                     const std::string& name = "20260131-120000") {
    const fs::path folder = root_ / name;
    fs::create_directories(folder);
    std::ofstream(folder / "run.json") << description;
    std::ofstream(folder / "cells.jsonl") << cells;
    return folder;
  }
  static std::string Lines(const std::vector<Json>& cells) {
    std::string lines;
    for (const Json& cell : cells) lines += cell.dump() + "\n";
    return lines;
  }
  fs::path Write(const std::vector<Json>& cells, const Json& description = Description()) {
    return WriteText(description.dump(), Lines(cells));
  }

 private:
  fs::path root_;
};

inline bool Says(const std::vector<std::string>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

template <typename F>
Error ErrorOf(F call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error";
  return InvalidInput("");
}

}  // namespace kvr::record

// Runs to compare, made in memory: six prompts, each with a cached parent of its own, two
// repetitions, all ways that a sweep has.
#pragma once

#include <string>
#include <vector>

#include "kvr/report/compare.h"
#include "record/run_fixture.h"

namespace kvr::report {

using namespace record;

inline Cell ToyCell(const std::string& prompt, int repetition) {
  Cell cell;
  cell.model = "m";
  cell.precision = "fp32";
  cell.workload = "g" + prompt.substr(prompt.size() - 1);
  cell.prompt_id = prompt;
  cell.repetition = repetition;
  cell.arm = "baseline";
  cell.schedule = "block";
  cell.policy = "off";
  cell.outcome = "off";
  cell.cached_parent = "parent of " + prompt;
  cell.exact_claimed = true;
  cell.prompt_tokens = 100;
  cell.work = {.prefilled_tokens = 100, .forward_passes = 3};
  cell.prefill_ms = cell.ttft_ms = 100;
  cell.decode_ms = 20;
  cell.total_ms = 120;
  cell.new_tokens = 3;
  cell.tokens = {5, 6, 7};
  cell.fidelity = {.exact = true, .compared_tokens = 3, .max_abs_logit_diff = 0.0};
  return cell;
}

inline Cell ToyHit(const std::string& prompt, int repetition) {
  Cell cell = ToyCell(prompt, repetition);
  cell.arm = "recycled";
  cell.policy = "embedding";
  cell.match = "token";
  cell.codec = "fp32";
  cell.candidates = 5;
  cell.asked_page_cache = "warm";
  cell.outcome = "hit";
  cell.limited_by = "diverged";
  cell.reuse_depth = 60;
  cell.available_depth = 62;
  cell.restored_bytes = 6000;
  cell.work = {.prefilled_tokens = 40,
               .forward_passes = 3,
               .restored_blocks = 1,
               .compared_entries = 4,
               .opened_files = 2};
  cell.embed_ms = 3;
  cell.lookup_ms = 0.5;
  cell.restore_ms = 1.5;
  cell.prefill_ms = 45;
  cell.ttft_ms = 50;
  cell.total_ms = 70;
  return cell;
}

inline Run ToyRun(const std::string& label, int prompts = 6, int repetitions = 2) {
  Run run;
  run.label = label;
  run.name = "toy";
  run.config = {{"match", "token"}, {"seed", 1}};
  run.prompts_sha256 = std::string(64, 'a');
  run.finished = "now";
  run.environment = {
      {"cpu_model", "Testium 2"},     {"instruction_set", "AVX2"},   {"threads", 2},
      {"libtorch_version", "2.13.0"}, {"commit", "abc123def456abc"}, {"build_type", "Release"}};
  ModelInfo model;
  model.name = "m";
  model.precision = "fp32";
  model.fingerprint = std::string(64, 'f');
  model.encoder_fingerprint = std::string(64, 'e');
  model.probe_exact = true;
  model.cache_keys = {{"fp32", {{"kernel_path", "ours 4"}}}};
  run.models = {model};
  for (int prompt = 0; prompt < prompts; ++prompt) {
    for (int i = 0; i < repetitions; ++i) {
      const std::string id = "t" + std::to_string(prompt);
      Cell second = ToyCell(id, i), null = ToyCell(id, i);
      second.control = true;
      null.arm = "recycled";
      run.cells.insert(run.cells.end(), {ToyCell(id, i), second, null, ToyHit(id, i)});
    }
  }
  return run;
}

// The one hit of prompt t2's second repetition.
inline Cell& OneHit(Run& run) {
  for (Cell& cell : run.cells) {
    if (cell.prompt_id == "t2" && cell.repetition == 1 && cell.hit()) return cell;
  }
  throw std::out_of_range("no hit");
}

}  // namespace kvr::report

// Runs of look-ups made by hand.
#pragma once

#include "run_fixture.h"

namespace kvr::record {

// A whole line as the format's document gives it: the nearest entry gives 20 of 30 tokens.
inline Json LookupLine(const Json& changes = Json::object()) {
  Json line = Json::parse(R"({
    "schema": 2, "model": "tiny", "precision": "fp32", "workload": "extends", "control": false,
    "prompt_id": "t1", "repetition": 0, "policy": "embedding", "match": "token", "candidates": 1,
    "distractors": 100, "entries": 120, "prompt_tokens": 40, "pieces": 50, "pieces_embedded": 50,
    "available_depth": 30, "reuse_depth": 20, "limited_by": "diverged", "similarity": 0.5,
    "rank": 2, "embed_ms": 4.0, "lookup_ms": 1.0})");
  line.update(changes);
  return line;
}

class LookupTest : public RunTest {
 protected:
  // A run of the queries t1 to t9, without cells.
  fs::path WriteLookups(const std::vector<Json>& lookups) {
    Json description = Description();
    description["schema"] = 2;
    description["prompts"] = {"t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"};
    const fs::path folder = Write({}, description);
    std::ofstream(folder / "lookups.jsonl") << Lines(lookups);
    return folder;
  }
};

}  // namespace kvr::record

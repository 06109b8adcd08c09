#include <gtest/gtest.h>

#include <fstream>

#include "kvr/base/file.h"
#include "kvr/record/run.h"
#include "testing.h"

namespace kvr::record {
namespace {

namespace fs = std::filesystem;

Cell FullCell() {
  Cell cell;
  cell.model = "tiny";
  cell.precision = "fp32";
  cell.workload = "g";
  cell.prompt_id = "t";
  cell.arm = "recycled";
  cell.schedule = "free";
  cell.policy = "embedding";
  cell.match = "whole";
  cell.codec = "fp32";
  cell.candidates = 1;
  cell.seed = 18446744073709551615u;
  cell.cached_parent = "p";
  cell.outcome = "miss";
  cell.prompt_tokens = 9;
  cell.new_tokens = 64;
  cell.totals_ms = {{16, 10.5}, {64, 40.25}};
  cell.wall_ms = 50;
  cell.other_cpu_ms = 3;
  cell.steal_ms = 0;
  cell.asked_page_cache = "cold";
  cell.session = "c1";
  cell.turn = 2;
  cell.history_tokens = 8;
  cell.expected_depth = 64;
  cell.work = {9, 1, 0, 1, 0};
  cell.peak_memory_bytes = 1 << 20;
  return cell;
}

TEST(CellsTest, WhatSchema2AddsSurvivesWritingAndReading) {
  const Cell cell = FullCell();
  const Json json = ToJson(cell);
  EXPECT_EQ(json.at("schema"), 2);
  EXPECT_EQ(json.at("totals_ms"), Json::parse(R"({"16": 10.5, "64": 40.25})"));
  const Cell read = CellFromJson(Json::parse(DumpLine(json)), "here");
  EXPECT_EQ(ToJson(read), json);
  EXPECT_EQ(read.seed, cell.seed);
  EXPECT_EQ(read.totals_ms, cell.totals_ms);
  EXPECT_FALSE(read.is_null());
  EXPECT_EQ(read.work, cell.work);
}

TEST(CellsTest, WarmAndColdAreDifferentCells) {
  Cell cell = FullCell();
  const std::string cold = Identity(cell);
  cell.asked_page_cache = "warm";
  EXPECT_NE(Identity(cell), cold);
}

TEST(CellsTest, AFolderOfRunsIsAnsweredWithItsLastOne) {
  const testing::TempFolder folder;
  const auto answer = [&] {
    try {
      (void)ReadRun(folder.path());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kNotFound);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(answer().find("has no run.json; kvr sweep says"), std::string::npos) << answer();
  fs::create_directory(folder.path() / "latest");
  std::ofstream(folder.path() / "latest/run.json") << "{}";
  EXPECT_NE(answer().find("its last run is " + (folder.path() / "latest").string()),
            std::string::npos)
      << answer();
}

TEST(CellsTest, ANullVariantIsARecycledCellWithoutAPolicy) {
  Cell cell = FullCell();
  cell.policy = "off";
  EXPECT_TRUE(cell.is_null());
  cell.arm = "baseline";
  EXPECT_FALSE(cell.is_null());
}

TEST(CellsTest, ImpossibleTotalsAndSeedsAreCorrupt) {
  const std::vector<std::pair<const char*, Json>> bad = {{"totals_ms", {{"x", 1}}},
                                                         {"totals_ms", {{"0", 1}}},
                                                         {"totals_ms", {{"16", "1"}}},
                                                         {"totals_ms", {{"16", -1.0}}},
                                                         {"totals_ms", {{"65", 1}}},
                                                         {"totals_ms", {1, 2}},
                                                         {"seed", -1},
                                                         {"seed", 1.5},
                                                         {"candidates", -1},
                                                         {"wall_ms", -1.0},
                                                         {"other_cpu_ms", -1.0},
                                                         {"steal_ms", "0"}};
  for (const auto& [field, value] : bad) {
    Json json = ToJson(FullCell());
    json[field] = value;
    std::string message;
    KVR_EXPECT_ERROR((void)CellFromJson(json, "here"), kCorrupt, message);
    EXPECT_TRUE(message.starts_with("here: ")) << field << ": " << message;
  }
}

TEST(CellsTest, ABaselinesCalibrationIsReadAndSchema1HasTheBlockSchedule) {
  const testing::TempFolder folder;
  const auto read = [&](const Json& model) {
    const Json run = {{"schema", 2},
                      {"name", "n"},
                      {"environment", Json::object()},
                      {"config", Json::object()},
                      {"models", {model}}};
    std::ofstream(folder.path() / "run.json") << run;
    std::ofstream(folder.path() / "cells.jsonl").flush();
    return ReadRun(folder.path()).models.at(0);
  };
  Json model = {
      {"name", "m"}, {"precision", "fp32"}, {"random_weights", false}, {"free_chunk_tokens", 256}};
  EXPECT_EQ(read(model).baseline_schedule, "block");
  EXPECT_EQ(read(model).free_chunk_tokens, 256);
  model["baseline"] = {{"schedule", "free"},
                       {"free_chunk_tokens", 512},
                       {"block_ms", {2.0, 2.5}},
                       {"free_ms", {1.0, 1.5}}};
  EXPECT_EQ(read(model).baseline_schedule, "free");
  EXPECT_EQ(read(model).free_chunk_tokens, 512);
  EXPECT_EQ(read(model).calibration_block_ms, (std::vector<double>{2, 2.5}));
  EXPECT_EQ(read(model).calibration_free_ms, (std::vector<double>{1, 1.5}));
  model["baseline"]["schedule"] = "best";
  std::string message;
  KVR_EXPECT_ERROR((void)read(model), kCorrupt, message);
}

}  // namespace
}  // namespace kvr::record

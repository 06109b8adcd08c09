#include <array>
#include <functional>

#include "compare_fixture.h"

namespace kvr::report {
namespace {

Comparison Compared(const record::Run& base, const record::Run& now,
                    const CompareOptions& options = {}) {
  return Compare(base, now, options);
}

std::string RefusalOf(const record::Run& base, const record::Run& now,
                      const CompareOptions& options = {}) {
  const Error error = ErrorOf([&] { (void)Compare(base, now, options); });
  EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  EXPECT_EQ(error.exit_code(), 2);
  return error.what();
}

TEST(Compare, ARunIsNoRegressionOfItself) {
  const Comparison result = Compared(ToyRun("base"), ToyRun("new"));
  EXPECT_FALSE(result.Regressed());
  EXPECT_TRUE(result.changes.empty());
  EXPECT_TRUE(result.notes.empty());
  EXPECT_EQ(result.cells, 6 * 2 * 4);
  EXPECT_EQ(result.cases.size(), 6u * 4);
  // No total: that takes three decoded cells.
  EXPECT_EQ(result.times.size(), 7u);
  for (const TimeRow& row : result.times) {
    EXPECT_EQ(row.verdict, TimeVerdict::kSteady) << row.metric;
    EXPECT_EQ(row.ratio, 1.0) << row.metric;
    EXPECT_EQ(row.clusters, 6u) << row.metric;
  }
}

struct Loss {
  const char* field;
  std::function<void(Cell&)> apply;
  bool both_ways = false;  // any difference is a loss
};

// Each is one cell's, of 48.
const std::vector<Loss>& Losses() {
  static const std::vector<Loss> losses = {
      {"tokens", [](Cell& c) { c.tokens[1] = 9; }, true},
      {"tokens", [](Cell& c) { c.tokens.pop_back(); }, true},
      {"prompt_tokens", [](Cell& c) { c.prompt_tokens = 101; }, true},
      {"outcome", [](Cell& c) { c.outcome = "miss", c.reuse_depth = 0; }},
      {"limited_by", [](Cell& c) { c.limited_by = "corrupt"; }, true},
      {"limited_by", [](Cell& c) { c.limited_by.reset(); }, true},
      {"reuse_depth", [](Cell& c) { c.reuse_depth -= 1; }},
      {"available_depth", [](Cell& c) { c.available_depth = 61; }},
      {"exact_claimed", [](Cell& c) { c.exact_claimed = false; }},
      {"exact", [](Cell& c) { c.fidelity->exact = false; }},
      {"exact", [](Cell& c) { c.fidelity.reset(); }},
      {"first_divergence", [](Cell& c) { c.fidelity->first_divergence = 2; }},
      {"compared_tokens", [](Cell& c) { c.fidelity->compared_tokens = 1; }},
      {"claim", [](Cell& c) { c.fidelity->max_abs_logit_diff = 1e-9; }},
      {"restored_bytes", [](Cell& c) { c.restored_bytes = 6001; }},
      {"restored_bytes", [](Cell& c) { c.restored_bytes.reset(); }},
      {"prefilled_tokens", [](Cell& c) { ++c.work->prefilled_tokens; }},
      {"forward_passes", [](Cell& c) { ++c.work->forward_passes; }},
      {"restored_blocks", [](Cell& c) { ++c.work->restored_blocks; }},
      {"compared_entries", [](Cell& c) { ++c.work->compared_entries; }},
      {"opened_files", [](Cell& c) { ++c.work->opened_files; }},
      {"forward_passes", [](Cell& c) { c.work.reset(); }},
  };
  return losses;
}

bool Lost(const Comparison& result, const std::string& field) {
  return std::ranges::any_of(result.changes, [&](const ExactChange& change) {
    return change.regression && change.field == field && change.of.prompt == "t2" &&
           change.of.way == "embedding/token, 5 candidates" &&
           change.repetitions == std::vector<std::int64_t>{1};
  });
}

TEST(Compare, OneLossInOneCellIsARegression) {
  CompareOptions exact_only;
  exact_only.times = false;
  for (const Loss& loss : Losses()) {
    const record::Run good = ToyRun("base");
    record::Run worse = good;
    loss.apply(OneHit(worse));
    const Comparison result = Compared(good, worse, exact_only);
    EXPECT_TRUE(result.Regressed()) << loss.field;
    EXPECT_TRUE(Lost(result, loss.field)) << loss.field;
    EXPECT_FALSE(Compared(good, good, exact_only).Regressed());
    // The other way round it is a gain, and passes.
    const Comparison back = Compared(worse, good, exact_only);
    EXPECT_EQ(back.Regressed(), loss.both_ways) << loss.field;
  }
}

TEST(Compare, LossesOfBaselinesCountToo) {
  const record::Run good = ToyRun("base");
  for (std::size_t i = 0; i < 3; ++i) {  // baseline, second baseline, null variant
    record::Run worse = good;
    ++worse.cells[i].work->forward_passes;
    EXPECT_EQ(Compared(good, worse).ExactRegressions(), 1) << i;
    worse = good;
    worse.cells[i].tokens[0] = 1;
    EXPECT_EQ(Compared(good, worse).ExactRegressions(), 1) << i;
  }
}

TEST(Compare, MoreDepthIsAnImprovementWithAllThatFollowsIt) {
  const record::Run base = ToyRun("base");
  record::Run now = base;
  for (Cell& cell : now.cells) {
    if (!cell.hit()) continue;
    cell.reuse_depth = 62;
    cell.limited_by = "end_of_entry";
    cell.restored_bytes = 6200;
    cell.work->prefilled_tokens = 38;
    cell.work->restored_blocks = 2;
    cell.work->opened_files = 3;
  }
  const Comparison result = Compared(base, now);
  EXPECT_FALSE(result.Regressed());
  // Both repetitions in one.
  EXPECT_EQ(result.changes.size(), 6u * 2);
  EXPECT_EQ(result.changes[0].repetitions, (std::vector<std::int64_t>{0, 1}));
  // But a forward pass more is one.
  ++OneHit(now).work->forward_passes;
  EXPECT_TRUE(Compared(base, now).Regressed());
}

TEST(Compare, ABrokenClaimIsARegressionThoughBaseBrokeItToo) {
  record::Run run = ToyRun("base");
  OneHit(run).fidelity->exact = false;
  EXPECT_TRUE(Compared(run, run).Regressed());
}

// Outputs are a machine's own; what the program does is not.
TEST(Compare, OnAnotherMachineTokensAreNotJudgedAndAllElseIs) {
  const record::Run base = ToyRun("base");
  for (const char* key : {"cpu_model", "instruction_set", "threads"}) {
    record::Run now = base;
    now.environment[key] = "other";
    OneHit(now).tokens = {1, 2, 3};
    const Comparison result = Compared(base, now);
    EXPECT_FALSE(result.Regressed()) << key;
    EXPECT_TRUE(Says(result.notes, key)) << key;
    EXPECT_TRUE(Says(result.notes, "tokens: not judged in 48 cells, of which 47")) << key;
    for (const Loss& loss : Losses()) {
      if (std::string(loss.field) == "tokens") continue;
      record::Run worse = now;
      loss.apply(OneHit(worse));
      EXPECT_TRUE(Lost(Compared(base, worse), loss.field)) << loss.field;
    }
  }
  record::Run now = base;
  now.environment.erase("cpu_model");
  OneHit(now).tokens = {1, 2, 3};
  EXPECT_FALSE(Compared(base, now).Regressed());
  EXPECT_FALSE(Compared(now, base).Regressed());
}

// A lossy cache's drift depends on the machine, as its outputs do.
TEST(Compare, ALossyHitsDriftIsJudgedOnOneMachineAlone) {
  record::Run base = ToyRun("base");
  for (Cell& cell : base.cells) {
    if (cell.hit()) cell.codec = "int8", cell.exact_claimed = false;
  }
  record::Run now = base;
  OneHit(now).fidelity->first_divergence = 1;
  EXPECT_TRUE(Compared(base, now).Regressed());
  now.environment["cpu_model"] = "other";
  EXPECT_FALSE(Compared(base, now).Regressed());
}

TEST(Compare, AProbeThatFailsIsTheProgramsFaultOnTheSameMachineOnly) {
  const record::Run base = ToyRun("base");
  record::Run now = base;
  now.models[0].probe_exact = false;
  const Comparison here = Compared(base, now);
  ASSERT_EQ(here.ExactRegressions(), 1);
  EXPECT_EQ(here.changes[0].field, "probe.exact");
  now.environment["cpu_model"] = "other";
  for (Cell& cell : now.cells) {
    ++cell.work->forward_passes;
    if (!cell.hit()) continue;
    cell.exact_claimed = false;
    cell.fidelity->exact = false;
  }
  const Comparison there = Compared(base, now);
  EXPECT_FALSE(there.Regressed());
  EXPECT_TRUE(Says(there.notes, "the probe"));
  EXPECT_TRUE(Says(there.notes, "forward passes are not compared"));
  --OneHit(now).reuse_depth;
  EXPECT_TRUE(Compared(base, now).Regressed());
}

// Each run calibrates the schedule of its one baseline, by times.
TEST(Compare, ABaselineOfAnotherScheduleIsStillTheBaseline) {
  const record::Run base = ToyRun("base");
  record::Run now = base;
  now.models[0].baseline_schedule = "free";
  now.models[0].free_chunk_tokens = 256;
  for (Cell& cell : now.cells) {
    if (cell.policy == "off") cell.schedule = "free", ++cell.work->forward_passes;
  }
  const Comparison result = Compared(base, now);
  EXPECT_FALSE(result.Regressed());
  EXPECT_EQ(result.cells, 48);
  EXPECT_TRUE(Says(result.notes, "schedule is free, 256 tokens, was block"));
  ++OneHit(now).work->forward_passes;
  EXPECT_TRUE(Compared(base, now).Regressed());
}

TEST(Compare, WhatCantBeComparedIsRefusedByName) {
  const record::Run base = ToyRun("base");
  const auto refused = [&](auto change, const CompareOptions& options = {}) {
    record::Run now = ToyRun("new");
    change(now);
    return RefusalOf(base, now, options);
  };
  const auto has = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(refused([](record::Run& r) { r.config["match"] = "whole"; }),
      "config \"match\" is \"whole\", was \"token\"");
  has(refused([](record::Run& r) { r.config.erase("seed"); }), "config \"seed\" is not set, was 1");
  has(refused([](record::Run& r) { r.prompts_sha256 = "b"; }),
      "prompts_sha256 b, was aaaaaaaaaaaa");
  has(refused([](record::Run& r) { r.prompts_sha256.reset(); }), "prompts_sha256 not known");
  has(refused([](record::Run& r) { r.schema = 1; }), "schema 1, was 2");
  has(refused([](record::Run& r) { r.models[0].fingerprint = "0"; }),
      "model m (fp32) has fingerprint 0");
  has(refused([](record::Run& r) { r.models[0].encoder_fingerprint = "0"; }),
      "encoder fingerprint 0");
  has(refused([](record::Run& r) { r.models[0].precision = "int8"; }),
      "model m (fp32) is not there");
  has(refused([](record::Run& r) { r.models.clear(); }), "model m (fp32) is not there");
  has(refused([](record::Run& r) { r.cells.pop_back(); }),
      "1 of 48 cells of base are not in new, the first: t5 embedding/token, 5 candidates, "
      "repetition 1");
  has(refused([](record::Run& r) { r.cells.clear(); }, {.fewer_cells = true}), "no cell in common");
  has(refused([](record::Run&) {}, {.metrics = {"tft"}}), "expected one of ttft, total");
  // All at once.
  const std::string both =
      refused([](record::Run& r) { r.schema = 1, r.models[0].fingerprint = "0"; });
  has(both, "schema");
  has(both, "fingerprint");
}

TEST(Compare, WhatDoesNotDecideCellsIsNoDifference) {
  const record::Run base = ToyRun("base");
  record::Run now = base;
  now.config.update({{"name", "n"}, {"description", "d"}, {"repetitions", 9}, {"warmups", 0}});
  now.environment["commit"] = "another";
  now.environment["libtorch_version"] = "3";
  EXPECT_FALSE(Compared(base, now).Regressed());
  EXPECT_TRUE(Compared(base, now).notes.empty());
  // More repetitions are no loss; fewer are, unless allowed.
  record::Run more = ToyRun("more", 6, 3);
  EXPECT_FALSE(Compared(base, more).Regressed());
  EXPECT_TRUE(Says(Compared(base, more).notes, "24 cells are in NEW alone"));
  (void)RefusalOf(more, base);
  const Comparison fewer = Compared(more, base, {.fewer_cells = true});
  EXPECT_EQ(fewer.cells, 48);
  EXPECT_TRUE(Says(fewer.notes, "24 of 72 cells"));
}

TEST(Compare, AbsoluteTimesNeedOneMachineAndBuild) {
  const record::Run base = ToyRun("base");
  for (const char* key :
       {"cpu_model", "instruction_set", "threads", "libtorch_version", "build_type"}) {
    record::Run now = base;
    now.environment[key] = "other";
    EXPECT_NE(RefusalOf(base, now, {.absolute = true}).find(key), std::string::npos);
    now.environment.erase(key);
    EXPECT_NE(RefusalOf(now, now, {.absolute = true}).find("not known"), std::string::npos);
  }
  // Everything twice as slow is seen by absolute times alone.
  record::Run slow = base;
  for (Cell& cell : slow.cells) {
    for (double* ms : {&cell.prefill_ms, &cell.ttft_ms, &*cell.decode_ms}) *ms *= 2;
    for (auto* ms : {&cell.embed_ms, &cell.lookup_ms, &cell.restore_ms}) {
      if (*ms) **ms *= 2;
    }
  }
  EXPECT_FALSE(Compared(base, slow).Regressed());
  const Comparison absolute = Compared(base, slow, {.absolute = true});
  EXPECT_EQ(absolute.SlowerTimes(), 7);
}

// Of every metric: 20 % more of the time alone is slower, 20 % less is faster and passes, 4 % is
// within the threshold.
TEST(Compare, EachTimeIsJudgedBothWays) {
  const std::map<std::string, std::function<void(Cell&, double)>> phases = {
      {"embed",
       [](Cell& c, double by) {
         if (c.hit()) *c.embed_ms *= by;
       }},
      {"lookup",
       [](Cell& c, double by) {
         if (c.hit()) *c.lookup_ms *= by;
       }},
      {"restore",
       [](Cell& c, double by) {
         if (c.hit()) *c.restore_ms *= by;
       }},
      {"prefill",
       [](Cell& c, double by) {
         if (c.hit()) c.prefill_ms *= by;
       }},
      {"ttft",
       [](Cell& c, double by) {
         if (c.hit()) c.ttft_ms *= by;
       }},
      {"total",
       [](Cell& c, double by) {
         if (c.hit()) *c.total_ms *= by;
       }},
      {"decode",
       [](Cell& c, double by) {
         if (c.hit()) *c.decode_ms *= by;
       }},
      {"baseline", [](Cell& c, double by) {
         if (!c.recycled()) *c.decode_ms /= by;
       }}};
  const record::Run base = ToyRun("base", 6, 3);
  ASSERT_EQ(MetricNames().size(), phases.size());
  for (const auto& [name, apply] : phases) {
    for (const double by : {1.2, 1.04, 1 / 1.2}) {
      record::Run now = base;
      for (Cell& cell : now.cells) apply(cell, by);
      const Comparison result = Compared(base, now);
      for (const TimeRow& row : result.times) {
        const TimeVerdict expected = row.metric != name ? TimeVerdict::kSteady
                                     : by > 1.05        ? TimeVerdict::kSlower
                                     : by > 1           ? TimeVerdict::kSteady
                                                        : TimeVerdict::kFaster;
        EXPECT_EQ(row.verdict, expected) << name << " by " << by << ": " << row.metric;
        if (row.metric == name) {
          EXPECT_NEAR(*row.ratio, by, 1e-9);
        }
      }
      EXPECT_EQ(result.Regressed(), by > 1.05);
      EXPECT_EQ(Compared(base, now, {.metrics = {"embed", "lookup"}}).times.size(), 2u);
      EXPECT_FALSE(Compared(base, now, {.times = false}).Regressed());
    }
  }
}

// One prompt that is much slower shows no change of the program.
TEST(Compare, ASlowdownThatPromptsDoNotShareIsNotSignificant) {
  const record::Run base = ToyRun("base");
  record::Run now = base;
  for (Cell& cell : now.cells) {
    if (cell.prompt_id == "t3" && cell.hit()) cell.ttft_ms *= 2;
  }
  const Comparison result = Compared(base, now);
  EXPECT_FALSE(result.Regressed());
  EXPECT_GT(*result.times[0].ratio, 1.05);
  EXPECT_GT(*result.times[0].detectable, 0.3);
}

TEST(Compare, OfFewerThanThreeClustersTimesAreNotJudged) {
  const record::Run base = ToyRun("base", 2);
  record::Run now = base;
  for (Cell& cell : now.cells) {
    if (cell.hit()) cell.ttft_ms *= 3;
  }
  const Comparison result = Compared(base, now);
  EXPECT_FALSE(result.Regressed());
  for (const TimeRow& row : result.times) {
    EXPECT_EQ(row.verdict, TimeVerdict::kNotJudged);
    EXPECT_FALSE(row.detectable.has_value());
  }
  const std::string text = FindCompareFormat("table").render(result);
  EXPECT_NE(text.find("7 times can't be judged: fewer than 3"), std::string::npos) << text;
  EXPECT_NE(FindCompareFormat("junit").render(result).find("<skipped"), std::string::npos);
}

TEST(Compare, UnfinishedRunsAreSaidToBeSo) {
  record::Run base = ToyRun("base"), now = ToyRun("new");
  base.finished.reset();
  now.warnings = {"torn line"};
  const Comparison result = Compared(base, now);
  EXPECT_TRUE(Says(result.notes, "BASE is not finished"));
  EXPECT_TRUE(Says(result.notes, "NEW: torn line"));
}

}  // namespace
}  // namespace kvr::report

// The study with tiny models: its lines against what the texts' tokens say.
#include "kvr/experiment/retrieval.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "kvr/base/file.h"
#include "kvr/model/archive.h"
#include "kvr/record/run.h"
#include "kvr/text/tokenizer.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

namespace fs = std::filesystem;

class RetrievalTest : public ::testing::Test {
 protected:
  RetrievalTest() {
    std::string text;
    for (int i = 0; i < 1500; ++i) {
      text += "the harbour master writes ship " + std::to_string(i * 7919 % 9973) + " into book " +
              std::to_string(i) + ". ";
    }
    WriteAndRename(folder_.path() / "text.txt", text);
    config_ = {{"workload", "retrieval"},
               {"models", testing::TinyModel("tiny-gpt2").string()},
               {"encoder", testing::TinyModel("tiny-bert").string()},
               {"texts", "text.txt"},
               {"distractors", {4, 16}},
               {"distractor_words", {8, 16}},
               {"queries", 2},
               {"query_words", {8, 48}},
               {"policies", {"embedding", "prefix"}},
               {"match", {"whole", "token", "block"}},
               {"candidates", {1, 5}},
               {"repetitions", 2},
               {"block_tokens", 16},
               {"seed", 5}};
  }

  Config Read() {
    WriteAndRename(folder_.path() / "c.json", config_.dump());
    return ReadConfig(folder_.path() / "c.json", {});
  }
  record::Run Run(const std::string& name) {
    const Config config = Read();
    (void)CheckRetrieval(config);
    RunRetrieval(config, {.folder = folder_.path() / name});
    return record::ReadRun(folder_.path() / name);
  }
  std::string Refusal() {
    std::string message;
    KVR_EXPECT_ERROR((void)CheckRetrieval(Read()), kInvalidInput, message);
    return message;
  }

  testing::TempFolder folder_;
  Json config_;
};

std::size_t Common(const Tokens& a, const Tokens& b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

TEST_F(RetrievalTest, EveryLookupStandsAgainstTheDepthThatWasThere) {
  const record::Run run = Run("r");
  const Config config = Read();
  const RetrievalTexts texts =
      MakeRetrievalTexts(Corpus(config.retrieval->texts), *config.retrieval, 5);
  const model::ArchiveInfo info = model::ReadArchiveInfo(testing::TinyModel("tiny-gpt2"));
  const text::Tokenizer tokenizer(info.metadata.at("tokenizer"), info.tokenizer_model);
  // By query and number of distractors.
  std::map<std::pair<std::string, std::int64_t>, std::size_t> there;
  for (const RetrievalQuery& query : texts.queries) {
    const Tokens tokens = tokenizer.Encode(query.text);
    for (const int distractors : config.retrieval->distractors) {
      std::size_t& most = there[{query.id, distractors}];
      const auto compare = [&](const std::string& text) {
        most = std::max(most, std::min(Common(tokenizer.Encode(text), tokens), tokens.size() - 1));
      };
      for (int i = 0; i < distractors; ++i) compare(texts.distractors[static_cast<std::size_t>(i)]);
      for (const RetrievalQuery& other : texts.queries) {
        for (const std::string& cached : other.cached) compare(cached);
      }
    }
  }
  // Two sizes, two rounds, six kinds, two queries; three rules, by the nearest one, five, or
  // hashes.
  ASSERT_EQ(run.lookups.size(), 2u * 2 * 6 * 2 * 3 * 3);
  std::int64_t short_of_it = 0, beyond_encoder = 0;
  for (const record::Lookup& lookup : run.lookups) {
    if (lookup.match == "token") {
      EXPECT_EQ(static_cast<std::size_t>(lookup.available_depth),
                there.at({lookup.prompt_id, lookup.distractors}));
    }
    if (lookup.policy == "prefix") {
      EXPECT_EQ(lookup.reuse_depth, lookup.available_depth);
    }
    if (lookup.reuse_depth < lookup.available_depth) ++short_of_it;
    EXPECT_EQ(lookup.entries, lookup.distractors + 2 * (1 + 3 + 1 + 2 + 2));
    EXPECT_EQ(lookup.control, lookup.workload == "unrelated");
    EXPECT_LE(lookup.pieces_embedded, 64);
    if (lookup.pieces > lookup.pieces_embedded) ++beyond_encoder;
    EXPECT_EQ(lookup.embed_ms.has_value(), lookup.policy == "embedding");
    // As many candidates as the rank says would have found it all, and one fewer would not.
    if (lookup.rank) {
      EXPECT_EQ(*lookup.rank <= *lookup.candidates, lookup.reuse_depth == lookup.available_depth);
    }
  }
  EXPECT_GT(short_of_it, 0);
  EXPECT_GT(beyond_encoder, 0);
  EXPECT_FALSE(fs::exists(folder_.path() / "r" / "embeddings.f32"));
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.models.size(), 1u);
}

// What a look-up is but for its time.
std::vector<std::string> Untimed(const record::Run& run) {
  std::vector<std::string> lines;
  for (record::Lookup lookup : run.lookups) {
    if (lookup.embed_ms) lookup.embed_ms = 0;
    lookup.lookup_ms = 0;
    lines.push_back(DumpLine(ToJson(lookup)));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

TEST_F(RetrievalTest, TheSameSeedFindsTheSame) {
  EXPECT_EQ(Untimed(Run("a")), Untimed(Run("b")));
  config_["seed"] = 6;
  EXPECT_NE(Untimed(Run("a2")), Untimed(record::ReadRun(folder_.path() / "a")));
}

TEST_F(RetrievalTest, WhatWasDoneBeforeAnInterruptionIsNotDoneAgain) {
  const std::vector<std::string> whole = Untimed(Run("whole"));
  const Config config = Read();
  const fs::path folder = folder_.path() / "r";
  const auto interrupted_at = [&](std::int64_t step, bool resume) {
    const auto stop = [step](const std::string&, std::int64_t done, std::int64_t) {
      if (done >= step) throw Error(Error::Kind::kInterrupted, "stop");
    };
    std::string message;
    KVR_EXPECT_ERROR(RunRetrieval(config, {.folder = folder, .resume = resume, .progress = stop}),
                     kInterrupted, message);
  };
  interrupted_at(7, false);
  const std::string embeddings = ReadFile(folder / "embeddings.f32");
  EXPECT_EQ(embeddings.size(), 7u * 48 * sizeof(float));
  // As if a crash had left half a vector, and a line of noise.
  WriteAndRename(folder / "embeddings.f32", embeddings + std::string(50, 'x'));
  interrupted_at(80, true);
  EXPECT_EQ(ReadFile(folder / "embeddings.f32").substr(0, embeddings.size()), embeddings);
  const std::string before = ReadFile(folder / "lookups.jsonl");
  EXPECT_GT(std::ranges::count(before, '\n'), 10);
  WriteAndRename(folder / "lookups.jsonl", before + "{\"schema\":2,\"mod");
  RunRetrieval(config, {.folder = folder, .resume = true});
  EXPECT_TRUE(ReadFile(folder / "lookups.jsonl").starts_with(before));
  const record::Run run = record::ReadRun(folder);
  EXPECT_EQ(Untimed(run), whole);
  EXPECT_TRUE(run.warnings.empty());
  // Another text is another study.
  WriteAndRename(folder_.path() / "text.txt", "So. " + ReadFile(folder_.path() / "text.txt"));
  std::string message;
  KVR_EXPECT_ERROR(RunRetrieval(config, {.folder = folder, .resume = true}), kInvalidInput,
                   message);
  EXPECT_NE(message.find("other prompts"), std::string::npos) << message;
}

TEST_F(RetrievalTest, ATextLongerThanTheCorpusOrAnEmptyOneIsRefused) {
  config_["query_words"] = 60'000;
  EXPECT_NE(Refusal().find("texts: found 13500 words"), std::string::npos);
  WriteAndRename(folder_.path() / "text.txt", "");
  EXPECT_NE(Refusal().find("texts: found 0 words"), std::string::npos);
}

TEST_F(RetrievalTest, AMistakeNamesItsPlace) {
  const auto refusal = [this](const char* key, const Json& value) {
    const Json before = config_;
    config_[key] = value;
    std::string message = Refusal();
    config_ = before;
    return message;
  };
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, Json>>{{"distractors", 0},
                                                 {"distractors", {5, 5}},
                                                 {"distractor_words", {20, 10}},
                                                 {"distractor_words", {8, 9, 10}},
                                                 {"query_words", 7},
                                                 {"queries", 0},
                                                 {"texts", Json::array()},
                                                 {"max_new_tokens", 4},
                                                 {"template", "chat"},
                                                 {"codecs", "int8"},
                                                 {"page_cache", "cold"},
                                                 {"device", "cuda"},
                                                 {"preamble_words", -1},
                                                 {"cache_prompts", "x.jsonl"}}) {
    EXPECT_NE(refusal(key, value).find(std::string("/") + key), std::string::npos) << key;
  }
  config_.erase("policies");
  config_.erase("match");
  config_.erase("candidates");
  const Json int8 = {{"policy", "prefix"}, {"codec", "int8"}};
  EXPECT_NE(refusal("reuses", Json::array({int8})).find("reuses/0"), std::string::npos);
  config_["policies"] = "prefix";
  config_.erase("encoder");
  EXPECT_NE(Refusal().find("/encoder"), std::string::npos);
}

}  // namespace
}  // namespace kvr::experiment

#include "kvr/experiment/config.h"

#include <gtest/gtest.h>

#include <map>

#include "kvr/base/file.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    WriteAndRename(folder_.path() / "cache.jsonl", "{\"id\":\"p\",\"text\":\"one\"}\n");
    WriteAndRename(folder_.path() / "test.jsonl",
                   "{\"id\":\"t\",\"group\":\"g\",\"text\":\"one two\",\"extends\":\"p\"}\n\n");
    config_ = {{"models", "m.pt"},
               {"encoder", "e.pt"},
               {"cache_prompts", "cache.jsonl"},
               {"test_prompts", "test.jsonl"}};
  }

  Config Read(const std::vector<std::string>& settings = {}) {
    WriteAndRename(folder_.path() / "c.json", config_.dump());
    return ReadConfig(folder_.path() / "c.json", settings);
  }

  // The message of the refusal.
  std::string Refusal(const std::vector<std::string>& settings = {}) {
    std::string message;
    KVR_EXPECT_ERROR((void)Read(settings), kInvalidInput, message);
    return message;
  }

  testing::TempFolder folder_;
  Json config_;
};

TEST_F(ConfigTest, ListsMakeAMatrix) {
  config_["policies"] = {"embedding", "prefix"};
  config_["match"] = {"whole", "token", "block"};
  config_["models"] = {"a-{precision}.pt", "b-{precision}.pt"};
  config_["precisions"] = {"fp32"};
  const Config config = Read();
  EXPECT_EQ(config.reuses.size(), 6u);
  ASSERT_EQ(config.models.size(), 2u);
  EXPECT_EQ(config.models[1].path, "b-fp32.pt");
  EXPECT_EQ(config.test_prompts[0].group, "g");
  EXPECT_EQ(config.name, "c");
}

TEST_F(ConfigTest, ThePageCacheIsOneMoreAxisAndWarmWithoutIt) {
  EXPECT_FALSE(Read().reuses[0].cold);
  config_["page_cache"] = {"warm", "cold"};
  const Config config = Read();
  ASSERT_EQ(config.reuses.size(), 2u);
  EXPECT_FALSE(config.reuses[0].cold);
  EXPECT_TRUE(config.reuses[1].cold);
  EXPECT_NE(Refusal({"page_cache=hot"}).find("/page_cache"), std::string::npos);
  config_.erase("page_cache");
  config_["reuses"] = {{{"policy", "prefix"}}, {{"policy", "prefix"}, {"page_cache", "cold"}}};
  EXPECT_TRUE(Read().reuses.at(1).cold);
}

TEST_F(ConfigTest, CodecsAreOneMoreAxisAndFp32WithoutThem) {
  EXPECT_EQ(Read().codecs, std::vector<cache::Codec>{cache::Codec::kFp32});
  EXPECT_EQ(Read().reuses[0].codec, cache::Codec::kFp32);
  config_["codecs"] = {"int8", "fp32"};
  config_["match"] = {"token", "block"};
  const Config config = Read();
  EXPECT_EQ(config.codecs,
            (std::vector<cache::Codec>{cache::CodecFromString("int8"), cache::Codec::kFp32}));
  ASSERT_EQ(config.reuses.size(), 4u);
  EXPECT_EQ(config.reuses[0].codec, cache::CodecFromString("int8"));
  EXPECT_EQ(config.reuses[3].codec, cache::Codec::kFp32);
  EXPECT_EQ(config.reuses[3].match, cache::Match::kBlock);
  EXPECT_NE(Refusal({"codecs=int9"}).find("did you mean \"int8\"?"), std::string::npos);
  EXPECT_NE(Refusal({"codecs=[\"bf16\",\"bf16\"]"}).find("/codecs/1"), std::string::npos);
}

TEST_F(ConfigTest, MarksAreANumberOrAListAndCandidatesAnAxisOfEmbeddingOnly) {
  EXPECT_EQ(Read().marks, std::vector<int>{16});
  EXPECT_EQ(Read({"max_new_tokens=[64,16]"}).marks, (std::vector<int>{16, 64}));
  EXPECT_EQ(Read().long_prompts, std::nullopt);
  EXPECT_EQ(Read({"long_prompts=0"}).long_prompts, 0);
  for (const std::string bad :
       {"[]", "[16,16]", "[0]", "-1", "1.5", "[\"a\"]", "18446744073709551615", "4294967297"}) {
    EXPECT_NE(Refusal({"max_new_tokens=" + bad}).find("/max_new_tokens"), std::string::npos) << bad;
  }
  EXPECT_NE(Refusal({"long_prompts=-1"}).find("/long_prompts"), std::string::npos);
  config_["policies"] = {"embedding", "prefix"};
  config_["candidates"] = {1, 5};
  const Config config = Read();
  ASSERT_EQ(config.reuses.size(), 3u);
  EXPECT_EQ(config.reuses[0].candidates, 1);
  EXPECT_EQ(config.reuses[1].candidates, 5);
  EXPECT_EQ(config.reuses[2].policy, engine::Policy::kPrefix);
}

TEST_F(ConfigTest, ReusesAreListedOneByOneInPlaceOfTheMatrix) {
  config_["reuses"] = {{{"policy", "embedding"}, {"match", "whole"}, {"candidates", 1}},
                       {{"policy", "prefix"}, {"codec", "int8"}}};
  const Config config = Read();
  ASSERT_EQ(config.reuses.size(), 2u);
  EXPECT_EQ(config.reuses[0].match, cache::Match::kWhole);
  EXPECT_EQ(config.reuses[0].candidates, 1);
  EXPECT_EQ(config.codecs,
            (std::vector<cache::Codec>{cache::Codec::kFp32, cache::CodecFromString("int8")}));
  EXPECT_EQ(Read({"match=[\"token\",\"whole\"]"}).reuses.size(), 2u);  // the command line wins
  config_["match"] = "token";
  EXPECT_NE(Refusal().find("/match"), std::string::npos);
  EXPECT_EQ(Read({"reuses=" + config_["reuses"].dump()}).reuses.size(), 2u);
  config_.erase("match");
  config_["reuses"][1] = config_["reuses"][0];
  EXPECT_NE(Refusal().find("/reuses/1"), std::string::npos);
  config_["reuses"][1] = {{"policy", "prefix"}, {"candidates", 3}};
  EXPECT_NE(Refusal().find("/reuses/1/candidates"), std::string::npos);
  config_["reuses"][1] = {{"policie", "prefix"}};
  EXPECT_NE(Refusal().find("/reuses/1/policie"), std::string::npos);
  EXPECT_NE(Refusal({"reuses=[]"}).find("/reuses"), std::string::npos);
}

TEST_F(ConfigTest, RepetitionsAreANumberOrARuleWithACap) {
  EXPECT_EQ(Read().until_width, std::nullopt);
  EXPECT_EQ(Read().repetitions, 3);
  config_["repetitions"] = {{"until_width", 0.05}};
  EXPECT_EQ(Read().until_width, 0.05);
  EXPECT_EQ(Read().least_repetitions, 3);
  EXPECT_EQ(Read().repetitions, 20);
  EXPECT_EQ(Read({"repetitions=5"}).until_width, std::nullopt);
  const Config config = Read({R"(repetitions={"until_width":0.1,"least":30})"});
  EXPECT_EQ(config.least_repetitions, 30);
  EXPECT_EQ(config.repetitions, 30);
  for (const auto& [rule, place] : std::vector<std::pair<const char*, const char*>>{
           {R"({})", "/repetitions/until_width: is missing"},
           {R"({"most":5})", "/repetitions/until_width: is missing"},
           {R"({"until_width":0})", "/repetitions/until_width: found 0"},
           {R"({"until_width":"5%"})", "/repetitions/until_width: found"},
           {R"({"until_width":0.1,"least":1})", "/repetitions/least: found 1"},
           {R"({"until_width":0.1,"least":9,"most":8})", "/repetitions/most: found 8"},
           {R"({"until_width":0.1,"max":8})", "/repetitions/max: is no known setting"},
           {R"([3])", "/repetitions: found [3]"},
           {R"(null)", "/repetitions: found null"}}) {
    const std::string message = Refusal({std::string("repetitions=") + rule});
    EXPECT_NE(message.find(place), std::string::npos) << rule << ": " << message;
  }
}

// All settings, and no other config than that which was read.
TEST_F(ConfigTest, InFullItHasEveryDefaultAndReadsAsTheSame) {
  const Json before = Read().in_full;
  for (const auto& [key, value] : std::map<std::string, Json>{{"name", "c"},
                                                              {"workload", "pairs"},
                                                              {"repetitions", 3},
                                                              {"warmups", 2},
                                                              {"max_new_tokens", 16},
                                                              {"long_prompts", nullptr},
                                                              {"temperature", 0},
                                                              {"seed", 0},
                                                              {"stop_at_eos", true},
                                                              {"template", "raw"},
                                                              {"threads", 0},
                                                              {"device", "cpu"},
                                                              {"min_depth", 1},
                                                              {"cache_prompts", "cache.jsonl"}}) {
    ASSERT_TRUE(before.contains(key)) << key;
    EXPECT_EQ(before.at(key), value) << key;
  }
  EXPECT_EQ(before.at("reuses"), Json::parse(R"([{"policy": "embedding", "match": "token",
      "codec": "fp32", "candidates": 5, "page_cache": "warm"}])"));
  for (const Json& changes :
       {Json::object(), Json{{"repetitions", {{"until_width", 0.1}}}, {"seed", 7}},
        Json{{"policies", {"prefix", "embedding"}}, {"codecs", {"int8", "fp32"}}}}) {
    config_.update(changes);
    const Json full = Read().in_full;
    config_ = full;
    for (const auto& [key, value] : full.items()) {
      if (value.is_null()) config_.erase(key);
    }
    EXPECT_EQ(Read().in_full, full);
    config_.erase("reuses");
  }
}

// The texts of prompts that the config lists are in "config" alone.
TEST_F(ConfigTest, InFullListedPromptsAreNames) {
  config_["cache_prompts"] = {{{"id", "p"}, {"text", "one"}}};
  EXPECT_EQ(Read().in_full.at("cache_prompts"), Json{"p"});
}

TEST_F(ConfigTest, SettingsOnTheCommandLineWin) {
  const Config config = Read({"repetitions=7", "match=block", "policies=[\"prefix\"]"});
  EXPECT_EQ(config.repetitions, 7);
  EXPECT_EQ(config.reuses[0].match, cache::Match::kBlock);
  EXPECT_EQ(config.reuses[0].policy, engine::Policy::kPrefix);
}

TEST_F(ConfigTest, AMistakeNamesItsPlaceAndANearMiss) {
  EXPECT_NE(Refusal({"match=tokne"}).find("/match: found \"tokne\""), std::string::npos);
  EXPECT_NE(Refusal({"match=tokne"}).find("did you mean \"token\"?"), std::string::npos);
  EXPECT_NE(Refusal({"repetitons=3"}).find("did you mean \"repetitions\"?"), std::string::npos);
  EXPECT_NE(Refusal({"repetitions=0"}).find("from 1 to"), std::string::npos);
  EXPECT_NE(Refusal({"repetitions=\"3\""}).find("whole number"), std::string::npos);
  EXPECT_NE(Refusal({"temperature=-1"}).find("/temperature"), std::string::npos);
  EXPECT_NE(Refusal({"policies=[\"prefix\",\"prefix\"]"}).find("/policies/1"), std::string::npos);
  EXPECT_NE(Refusal({"block_tokens=10"}).find("multiple of 4"), std::string::npos);
  EXPECT_NE(Refusal({"control_groups=elsewhere"}).find("/control_groups"), std::string::npos);
  EXPECT_NE(Refusal({"nonsense"}).find("key=value"), std::string::npos);
}

TEST_F(ConfigTest, AMissingSettingSuggestsWhatIsThere) {
  config_["modles"] = config_["models"];
  config_.erase("models");
  EXPECT_NE(Refusal().find("is \"modles\" meant?"), std::string::npos);
}

TEST_F(ConfigTest, ABrokenPromptNamesItsLine) {
  WriteAndRename(folder_.path() / "test.jsonl", "{\"id\":\"t\",\"text\":\"x\"}\n{\"id\":\"u\"}\n");
  EXPECT_NE(Refusal().find("test.jsonl:2"), std::string::npos);
  WriteAndRename(folder_.path() / "test.jsonl",
                 "{\"id\":\"t\",\"text\":\"x\"}\n{\"id\":\"t\",\"text\":\"y\"}\n");
  EXPECT_NE(Refusal().find("each id once"), std::string::npos);
}

TEST_F(ConfigTest, APolicyNeedsItsEncoder) {
  config_.erase("encoder");
  EXPECT_NE(Refusal().find("/encoder"), std::string::npos);
  EXPECT_EQ(Read({"policies=prefix"}).reuses.size(), 1u);
}

}  // namespace
}  // namespace kvr::experiment

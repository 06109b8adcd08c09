#include "kvr/experiment/corpus.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>

#include "kvr/base/file.h"
#include "testing.h"

namespace kvr::experiment {
namespace {

using Strings = std::vector<std::string>;

class CorpusTest : public ::testing::Test {
 protected:
  std::filesystem::path Write(const std::string& name, const std::string& text) {
    WriteAndRename(folder_.path() / name, text);
    return folder_.path() / name;
  }
  // Words that are numbers, ten to a sentence.
  std::filesystem::path Counting(int words) {
    std::string text;
    for (int i = 0; i < words; ++i) text += std::to_string(i) + (i % 10 == 9 ? ". " : " ");
    return Write("counting.txt", text);
  }
  static Strings Passage(const Corpus& corpus, std::size_t count, std::size_t* from) {
    const auto words = corpus.Passage(count, from);
    return {words.begin(), words.end()};
  }

  testing::TempFolder folder_;
};

Strings Split(const std::string& text) {
  std::istringstream in(text);
  Strings words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

TEST_F(CorpusTest, APassageBeginsWithASentenceOrAParagraph) {
  const Corpus corpus({Write("a.txt", "One two. three\nfour (five!) six\n \nseven  eight? nine")});
  EXPECT_EQ(corpus.words(), 9u);
  std::size_t at = 0;
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{"One"});
  EXPECT_EQ(Passage(corpus, 2, &at), (Strings{"three", "four"}));
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{"six"});
  EXPECT_EQ(Passage(corpus, 2, &at), (Strings{"seven", "eight?"}));
  EXPECT_EQ(at, 8u);
  EXPECT_EQ(Passage(corpus, 2, &at), Strings{});
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{"nine"});
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{});
}

TEST_F(CorpusTest, FilesOfEitherFormFollowOneAnother) {
  const Corpus corpus({Write("a.jsonl", "{\"text\":\"one\"}\n\n{\"text\":\"two\",\"id\":3}\n"),
                       Write("empty.txt", ""),
                       Write("b.txt",
                             "thr\xFF"
                             "ee")});
  std::size_t at = 0;
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{"one"});
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{"two"});
  EXPECT_EQ(Passage(corpus, 1, &at), Strings{"thr\xEF\xBF\xBD"
                                             "ee"});
}

TEST_F(CorpusTest, AFileThatIsMissingOrHasNoTextIsNamed) {
  std::string message;
  KVR_EXPECT_ERROR(Corpus({folder_.path() / "absent.txt"}), kNotFound, message);
  for (const char* line : {"{\"txt\":\"a\"}", "{\"text\":1}", "[]", "\"a\""}) {
    const auto file = Write("bad.jsonl", std::string("{\"text\":\"a\"}\n") + line + "\n");
    KVR_EXPECT_ERROR(Corpus({file}), kInvalidInput, message);
    EXPECT_NE(message.find("bad.jsonl:2"), std::string::npos) << message;
  }
}

TEST_F(CorpusTest, EachKindOfQueryHasItsOwnInTheCache) {
  const Corpus corpus({Counting(4000)});
  const RetrievalTexts texts = MakeRetrievalTexts(
      corpus,
      {.distractors = {5}, .distractor_words = {8, 8}, .query_words = {40, 40}, .queries = 2}, 1);
  std::set<std::string> kinds;
  for (const RetrievalQuery& query : texts.queries) {
    kinds.insert(query.kind);
    const Strings words = Split(query.text);
    ASSERT_EQ(words.size(), 40u);
    std::vector<std::size_t> common;  // words with each that is cached
    for (const std::string& cached : query.cached) {
      const Strings own = Split(cached);
      const auto differ = std::mismatch(own.begin(), own.end(), words.begin(), words.end());
      common.push_back(static_cast<std::size_t>(differ.first - own.begin()));
    }
    EXPECT_EQ(query.control, query.cached.empty());
    const std::map<std::string, std::vector<std::size_t>> expected = {
        {"extends", {30}},   {"lengths", {10, 20, 30}}, {"diverges", {20}},
        {"forks", {30, 20}}, {"shifted", {20, 0}},      {"unrelated", {}}};
    EXPECT_EQ(common, expected.at(query.kind)) << query.id;
    if (query.kind == "forks") {
      EXPECT_EQ(Split(query.cached[1]).size(), 40u);
    }
    if (query.kind == "shifted") {
      EXPECT_TRUE(query.text.ends_with(" " + query.cached[1]));
    }
  }
  EXPECT_EQ(kinds.size(), QueryKinds().size());
}

TEST_F(CorpusTest, APreambleBeginsEveryTextAndIsNobodysOwn) {
  const Corpus corpus({Counting(4000)});
  RetrievalSettings settings{
      .distractors = {5}, .distractor_words = {8, 8}, .query_words = {20, 20}, .queries = 1};
  settings.preamble_words = 12;
  const RetrievalTexts texts = MakeRetrievalTexts(corpus, settings, 1);
  const std::string preamble = "0 1 2 3 4 5 6 7 8 9. 10 11 ";
  std::vector<std::string> all = texts.distractors;
  for (const RetrievalQuery& query : texts.queries) {
    EXPECT_EQ(Split(query.text).size(), 32u);
    all.push_back(query.text);
    all.insert(all.end(), query.cached.begin(), query.cached.end());
  }
  for (const std::string& text : all) {
    EXPECT_TRUE(text.starts_with(preamble)) << text;
    EXPECT_GE(std::stoi(text.substr(preamble.size())), 20) << text;
  }
  std::string message;
  settings.preamble_words = 4001;
  KVR_EXPECT_ERROR((void)MakeRetrievalTexts(corpus, settings, 1), kInvalidInput, message);
}

TEST_F(CorpusTest, NoPassageHasTextOfAnotherAndAllOfTheCorpusIsReached) {
  const Corpus corpus({Counting(20000)});
  const RetrievalTexts texts = MakeRetrievalTexts(
      corpus,
      {.distractors = {10, 60}, .distractor_words = {8, 32}, .query_words = {16, 64}, .queries = 2},
      7);
  EXPECT_EQ(texts.distractors.size(), 60u);
  std::set<std::string> seen;
  int greatest = 0;
  const auto add = [&](const std::string& text) {
    for (const std::string& word : Split(text)) {
      EXPECT_TRUE(seen.insert(word).second) << word;
      greatest = std::max(greatest, std::stoi(word));
    }
  };
  for (const std::string& text : texts.distractors) add(text);
  for (const RetrievalQuery& query : texts.queries) add(query.text);
  EXPECT_GT(greatest, 19000);
}

TEST_F(CorpusTest, TheSeedAloneDecidesAndAnotherOneDecidesOtherwise) {
  const Corpus corpus({Counting(5000)});
  const RetrievalSettings settings{
      .distractors = {20}, .distractor_words = {8, 32}, .query_words = {16, 64}, .queries = 2};
  const auto made = [&](std::uint64_t seed) { return MakeRetrievalTexts(corpus, settings, seed); };
  EXPECT_EQ(made(3).distractors, made(3).distractors);
  EXPECT_EQ(made(3).queries[4].text, made(3).queries[4].text);
  EXPECT_NE(made(3).distractors, made(4).distractors);
}

TEST_F(CorpusTest, LengthsAreSpreadOverTheDoublings) {
  const Corpus corpus({Counting(60000)});
  const RetrievalTexts texts = MakeRetrievalTexts(
      corpus,
      {.distractors = {1200}, .distractor_words = {8, 63}, .query_words = {8, 8}, .queries = 1}, 1);
  std::array<int, 3> counts{};
  for (const std::string& text : texts.distractors) {
    const std::size_t words = Split(text).size();
    ASSERT_TRUE(words >= 8 && words <= 63) << words;
    ++counts[words < 16 ? 0 : words < 32 ? 1 : 2];
  }
  // Of 1,200 draws each third is 400, with a standard deviation of 16.
  for (const int count : counts) EXPECT_NEAR(count, 400, 65);
}

TEST_F(CorpusTest, ACorpusTooSmallSaysHowManyWordsAreNeeded) {
  const RetrievalSettings settings{
      .distractors = {10}, .distractor_words = {8, 8}, .query_words = {10, 10}, .queries = 1};
  std::string message;
  for (const int words : {0, 1, 150, 199}) {
    KVR_EXPECT_ERROR((void)MakeRetrievalTexts(Corpus({Counting(words)}), settings, 1),
                     kInvalidInput, message);
    EXPECT_NE(message.find("found " + std::to_string(words) + " words, expected 200 and some more"),
              std::string::npos)
        << message;
  }
  EXPECT_EQ(MakeRetrievalTexts(Corpus({Counting(400)}), settings, 1).distractors.size(), 10u);
}

}  // namespace
}  // namespace kvr::experiment

#include "kvr/text/wordpiece.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvr/base/error.h"

namespace kvr::text {
namespace {

using nlohmann::json;

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

const std::vector<std::string> kVocabulary = {
    "[PAD]",  "[UNK]", "[CLS]",     "[SEP]", "[MASK]",  "un",           "##aff",
    "##able", "hello", "world",     ",",     "!",       "cafe",         "\u4f60",
    "\u597d", "##a",   "a",         "##i",   "i",       "\u03c3",       "[",
    "]",      "mask",  "caf\u00e9", "HELLO", "i\u0307", "e\u0323\u0301"};

Token Id(const std::string& piece) {
  for (std::size_t i = 0; i < kVocabulary.size(); ++i) {
    if (kVocabulary[i] == piece) return static_cast<Token>(i);
  }
  ADD_FAILURE() << piece << " is not in the vocabulary";
  return -1;
}

std::string Vocabulary() {
  std::string lines;
  for (const std::string& piece : kVocabulary) lines += (lines.empty() ? "" : "\n") + piece;
  return lines;
}

json Spec() {
  return {{"kind", "wordpiece"},
          {"vocab_size", kVocabulary.size()},
          {"special", {{{"text", "[MASK]"}, {"id", 4}}, {{"text", "[SEP]"}, {"id", 3}}}},
          {"unknown_id", 1},
          {"cls_id", 2},
          {"sep_id", 3},
          {"lowercase", true},
          {"strip_accents", true},
          {"split_cjk", true},
          {"max_word_chars", 100},
          {"classes",
           {{"control", {0x00, 0x08, 0x0E, 0x1F, 0x7F, 0x9F, 0x200B, 0x200D, 0xFFFD, 0xFFFD}},
            {"space", {0x09, 0x0A, 0x0D, 0x0D, 0x20, 0x20, 0xA0, 0xA0, 0x3000, 0x3000}},
            {"mark", {0x300, 0x36F}},
            {"punctuation", {0x21, 0x2F, 0x3A, 0x40, 0x5B, 0x60, 0x7B, 0x7E}},
            {"cjk", {0x4E00, 0x9FFF}}}}};
}

// The ids between [CLS] and [SEP].
Tokens Inside(const std::string& text, const json& spec = Spec()) {
  Tokens ids = WordPiece(spec, Vocabulary()).Encode(text, kNoLimit).ids;
  EXPECT_GE(ids.size(), 2u);
  EXPECT_EQ(ids.front(), 2);
  EXPECT_EQ(ids.back(), 3);
  return {ids.begin() + 1, ids.end() - 1};
}

Tokens Ids(const std::vector<std::string>& pieces) {
  Tokens ids;
  for (const std::string& piece : pieces) ids.push_back(Id(piece));
  return ids;
}

TEST(WordPieceTest, WordsBecomeTheLongestPieces) {
  EXPECT_EQ(Inside(""), Tokens{});
  EXPECT_EQ(Inside("unaffable"), Ids({"un", "##aff", "##able"}));
  EXPECT_EQ(Inside("Hello,  WORLD!\n"), Ids({"hello", ",", "world", "!"}));
}

TEST(WordPieceTest, AWordThatDoesNotFitIsUnknownAsAWhole) {
  EXPECT_EQ(Inside("unaffx hello"), Ids({"[UNK]", "hello"}));
  EXPECT_EQ(Inside("x"), Ids({"[UNK]"}));
}

TEST(WordPieceTest, AccentsAreStripped) {
  EXPECT_EQ(Inside("CAF\u00c9 cafe\u0301"), Ids({"cafe", "cafe"}));
  EXPECT_EQ(Inside("\u0130"), Ids({"i"}));
  EXPECT_EQ(Inside("\u03a3"), Ids({"\u03c3"}));
  EXPECT_EQ(Inside("\u0301"), Tokens{});  // nothing is left, not even a word
}

TEST(WordPieceTest, MarksAreBroughtIntoCanonicalOrder) {
  json spec = Spec();
  spec["classes"]["mark"] = json::array();  // so that they stay, to be seen
  EXPECT_EQ(Inside("e\u0301\u0323 \u00e9\u0323 \u1eb9\u0301", spec),
            Ids({"e\u0323\u0301", "e\u0323\u0301", "e\u0323\u0301"}));
}

TEST(WordPieceTest, OptionsTurnStepsOff) {
  json spec = Spec();
  spec["strip_accents"] = false;
  EXPECT_EQ(Inside("CAF\u00c9", spec), Ids({"caf\u00e9"}));
  EXPECT_EQ(Inside("\u0130", spec), Ids({"i\u0307"}));  // lower case of one character can be two
  spec["lowercase"] = false;
  EXPECT_EQ(Inside("HELLO Hello", spec), Ids({"HELLO", "[UNK]"}));
  spec["split_cjk"] = false;
  EXPECT_EQ(Inside("\u4f60\u597d", spec), Ids({"[UNK]"}));
}

TEST(WordPieceTest, ChineseCharactersStandAlone) {
  EXPECT_EQ(Inside("a\u4f60\u597da"), Ids({"a", "\u4f60", "\u597d", "a"}));
}

TEST(WordPieceTest, ControlCharactersVanishAndSpacesSeparate) {
  EXPECT_EQ(Inside(std::string("hel\0lo", 6)), Ids({"hello"}));
  EXPECT_EQ(Inside("hel\u200blo\ufffd"), Ids({"hello"}));
  EXPECT_EQ(Inside("hello\u3000world\u00a0a\ta"), Ids({"hello", "world", "a", "a"}));
}

TEST(WordPieceTest, SpecialTokensInTheTextAreSingleIds) {
  EXPECT_EQ(Inside("hello[MASK]world[SEP]"), Ids({"hello", "[MASK]", "world", "[SEP]"}));
  EXPECT_EQ(Inside("[mask]"), Ids({"[", "mask", "]"}));
}

TEST(WordPieceTest, AWordOfMoreThanTheLimitIsUnknown) {
  EXPECT_EQ(Inside(std::string(100, 'a')).size(), 100u);
  EXPECT_EQ(Inside(std::string(101, 'a')), Ids({"[UNK]"}));
  std::string accents;  // the limit counts characters after stripping
  for (int i = 0; i < 100; ++i) accents += "a\u0301";
  EXPECT_EQ(Inside(accents).size(), 100u);
}

TEST(WordPieceTest, TruncationKeepsBothEndsAndIsReported) {
  const WordPiece pieces(Spec(), Vocabulary());
  const WordPieces all = pieces.Encode("hello world a a", 6);
  EXPECT_EQ(all.ids.size(), 6u);
  EXPECT_EQ(all.pieces_total, 6u);
  const WordPieces cut = pieces.Encode("hello world a a", 4);
  EXPECT_EQ(cut.ids, Ids({"[CLS]", "hello", "world", "[SEP]"}));
  EXPECT_EQ(cut.pieces_total, 6u);
  EXPECT_EQ(pieces.Encode("hello", 2).ids, Ids({"[CLS]", "[SEP]"}));
  EXPECT_THROW((void)pieces.Encode("hello", 1), Error);
}

TEST(WordPieceTest, ManyCombiningMarksTakeLinearTime) {
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i) marks += "\u0301\u0323";
  EXPECT_EQ(Inside(marks), Ids({"a"}));  // quadratic ordering would take minutes
}

TEST(WordPieceTest, IllFormedTextIsRefused) {
  try {
    (void)WordPiece(Spec(), Vocabulary()).Encode("a\xFF", kNoLimit);
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kInvalidInput);
  }
}

TEST(WordPieceTest, ABadSpecOrVocabularyIsCorrupt) {
  const auto expect_corrupt = [](const json& spec, const std::string& vocabulary) {
    try {
      WordPiece pieces(spec, vocabulary);
      ADD_FAILURE() << spec << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kCorrupt) << error.what();
    }
  };
  const json good = Spec();
  for (const auto& [key, unused] : good.items()) {
    json spec = Spec();
    spec.erase(key);
    expect_corrupt(spec, Vocabulary());
  }
  const std::vector<std::pair<std::string, json>> changes = {
      {"kind", "byte_bpe"},
      {"vocab_size", 3},
      {"unknown_id", -1},
      {"cls_id", kVocabulary.size()},
      {"special", {{{"text", "[MASK]"}, {"id", kVocabulary.size()}}}}};
  for (const auto& [key, value] : changes) {
    json spec = Spec();
    spec[key] = value;
    expect_corrupt(spec, Vocabulary());
  }
  for (const json& ranges : {json{1}, json{5, 4}, json{1, 5, 5, 6}, json{-1, 3}, json{0, 0x110000},
                             json{0, 0x7FFFFFFF}, json{"a", "b"}, json("a")}) {
    json spec = Spec();
    spec["classes"]["mark"] = ranges;
    expect_corrupt(spec, Vocabulary());
  }
  expect_corrupt(Spec(), "");
  expect_corrupt(Spec(), Vocabulary() + "\nhello");
  expect_corrupt(Spec(), Vocabulary() + "\nmore");
}

}  // namespace
}  // namespace kvr::text

#include "kvr/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/base/utf8.h"
#include "tiny_tokenizer.h"

namespace kvr::text {
namespace {

using namespace std::string_literals;
using nlohmann::json;
using testing::ByteBpePieces;
using testing::ByteBpeSpec;
using testing::Merge;
using testing::ModelProto;
using testing::Piece;
using testing::PieceType;

// Every token made here is what byte-pair encoding makes of its own text, as the exporter checks.
const std::vector<Merge>& Merges() {
  static const std::vector<Merge> merges = {
      {"h", "e"}, {"l", "l"},   {"he", "ll"}, {"hell", "o"},    {" ", "hello"},
      {"a", "b"}, {"a", "a"},   {"b", "a"},   {"aa", "aa"},     {"ab", "ab"},
      {" ", "a"}, {"\n", "\n"}, {" ", " "},   {"\xC3", "\xA9"}, {"aaaa", "ab"}};
  return merges;
}

Tokenizer ByteBpe(const std::string& missing = "") {
  const std::vector<Piece> pieces = ByteBpePieces(Merges(), missing);
  return Tokenizer(ByteBpeSpec(pieces.size()), ModelProto(pieces, false, false));
}

constexpr Token kFirstByte = 3;
constexpr Token kFirstMerge = kFirstByte + 256;

Token ByteId(char c) { return kFirstByte + static_cast<unsigned char>(c); }

Token MergeId(const std::string& text) {
  for (std::size_t i = 0; i < Merges().size(); ++i) {
    if (Merges()[i].left + Merges()[i].right == text) return kFirstMerge + static_cast<Token>(i);
  }
  ADD_FAILURE() << text << " is not a merge";
  return -1;
}

// Byte-pair encoding as published: of all neighbours on the list, the earliest rule first, and of
// those the leftmost. Quadratic, and independent of the code under test.
Tokens NaiveBpe(const std::string& text) {
  std::vector<std::string> parts;
  for (const char c : text) parts.push_back({c});
  while (true) {
    std::size_t best_rank = Merges().size(), best_at = 0;
    for (std::size_t at = 0; at + 1 < parts.size(); ++at) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        if (Merges()[rank].left == parts[at] && Merges()[rank].right == parts[at + 1]) {
          best_rank = rank;
          best_at = at;
        }
      }
    }
    if (best_rank == Merges().size()) break;
    parts[best_at] += parts[best_at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
  Tokens ids;
  for (const std::string& part : parts) {
    ids.push_back(part.size() == 1 ? ByteId(part[0]) : MergeId(part));
  }
  return ids;
}

template <typename F>
void ExpectError(Error::Kind kind, F action) {
  try {
    action();
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
  }
}

std::string RandomText(std::mt19937& random, const std::vector<std::string>& parts) {
  std::string text;
  for (auto n = random() % 20; n > 0; --n) text += parts[random() % parts.size()];
  return text;
}

TEST(ByteBpeTest, TheTinyVocabularyKeepsTheExportersPromise) {
  for (const Merge& merge : Merges()) {
    EXPECT_EQ(NaiveBpe(merge.left + merge.right), Tokens{MergeId(merge.left + merge.right)});
  }
}

TEST(ByteBpeTest, MergesWithinEachCutOfThePattern) {
  const Tokenizer tokenizer = ByteBpe();
  EXPECT_EQ(tokenizer.Encode("hello hello"), (Tokens{MergeId("hello"), MergeId(" hello")}));
  // A run of white space gives its last space to the word that follows.
  EXPECT_EQ(tokenizer.Encode("a   a"), (Tokens{ByteId('a'), MergeId("  "), MergeId(" a")}));
  EXPECT_EQ(tokenizer.Encode("\u00e9"), Tokens{MergeId("\u00e9")});
  EXPECT_EQ(tokenizer.Encode(""), Tokens{});
}

TEST(ByteBpeTest, EqualsPublishedBytePairEncoding) {
  // One cut for the whole text, so that merges meet everywhere.
  const std::vector<Piece> pieces = ByteBpePieces(Merges());
  json spec = ByteBpeSpec(pieces.size());
  spec["pattern"] = "(?s).+";
  const Tokenizer tokenizer(spec, ModelProto(pieces, false, false));
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = RandomText(
        random, {"a", "b", "aa", "ab", "ba", "h", "he", "l", "o", " ", "\n", "\u00e9", "\0"s});
    EXPECT_EQ(tokenizer.Encode(text), NaiveBpe(text)) << text;
  }
}

TEST(ByteBpeTest, DecodeInvertsEncode) {
  const Tokenizer tokenizer = ByteBpe();
  std::mt19937 random(8);
  for (int i = 0; i < 3000; ++i) {
    const std::string text =
        RandomText(random, {"a",      "hello",      " ",        "  ",     "\n",  "\t",   "\u00e9",
                            "\u4f60", "\U0001F600", "\u0301",   "\u200d", "\0"s, "\x7f", "<|end|>",
                            "<|end",  "|>",         "<|end|>|", "7",      "'s",  "'",    "\u2581"});
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
  }
}

TEST(ByteBpeTest, EveryByteDecodesToItself) {
  const Tokenizer tokenizer = ByteBpe();
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto c = static_cast<char>(byte);
    EXPECT_EQ(tokenizer.Decode(Tokens{ByteId(c)}), std::string(1, c));
  }
}

TEST(ByteBpeTest, StretchesThatThePatternSkipsAreKept) {
  const std::vector<Piece> pieces = ByteBpePieces(Merges());
  json spec = ByteBpeSpec(pieces.size());
  spec["pattern"] = "b+";
  const Tokenizer tokenizer(spec, ModelProto(pieces, false, false));
  EXPECT_EQ(tokenizer.Encode("aabaa"), (Tokens{MergeId("aa"), ByteId('b'), MergeId("aa")}));
}

TEST(ByteBpeTest, SpecialTokensAreSplitOffFirst) {
  const Tokenizer tokenizer = ByteBpe();
  EXPECT_EQ(tokenizer.Encode("<|end|>hello<|end|>|"), (Tokens{0, MergeId("hello"), 1}));
  EXPECT_EQ(tokenizer.Encode("a <pad> hello"), (Tokens{ByteId('a'), 2, MergeId("hello")}));
  EXPECT_EQ(tokenizer.SpecialToken("<|end|>"), 0);
  EXPECT_EQ(tokenizer.SpecialToken("hello"), std::nullopt);
  EXPECT_EQ(tokenizer.Decode(Tokens{0, MergeId("hello"), 1}), "<|end|>hello<|end|>|");
  EXPECT_EQ(tokenizer.Decode(Tokens{0, MergeId("hello"), 1}, /*skip_special=*/true), "hello");
}

TEST(ByteBpeTest, ABeginningTokenIsAddedOnlyWhereTheSpecSaysSo) {
  const std::vector<Piece> pieces = ByteBpePieces(Merges());
  json spec = ByteBpeSpec(pieces.size());
  spec["add_bos"] = true;
  spec["bos_id"] = 1;
  const Tokenizer tokenizer(spec, ModelProto(pieces, false, false));
  EXPECT_EQ(tokenizer.Encode("hello"), (Tokens{1, MergeId("hello")}));
  EXPECT_EQ(tokenizer.Encode(""), Tokens{1});
}

// As the reference: SmolLM2's vocabulary, for one, lacks some bytes.
TEST(ByteBpeTest, AByteWithoutATokenVanishesAndItsNeighboursMeet) {
  const Tokenizer tokenizer = ByteBpe("\x04");
  const Tokens hello = tokenizer.Encode("hello");
  EXPECT_EQ(hello.size(), 1u);
  EXPECT_EQ(tokenizer.Encode("\x04"), Tokens{});
  // \x04 is no letter: the pattern cuts at it. Inside one cut the neighbours merge.
  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode("\n\x04\n")), "\n\n");
  std::vector<Piece> pieces = ByteBpePieces(Merges(), "\x04");
  json spec = ByteBpeSpec(pieces.size());
  spec["pattern"] = "(?s).+";
  EXPECT_EQ(Tokenizer(spec, ModelProto(pieces, false, false)).Encode("he\x04llo"), hello);
}

TEST(ByteBpeTest, LongRunsTakeNoQuadraticTime) {
  const Tokenizer tokenizer = ByteBpe();
  for (const std::string& part : {"a"s, " "s, "\n"s, "ab"s, "<"s, "\u0301"s, "\u4f60"s}) {
    std::string text;
    while (text.size() < 200000) text += part;
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
  }
}

TEST(ByteBpeTest, AnIdOutsideTheVocabularyIsRefused) {
  const Tokenizer tokenizer = ByteBpe();
  for (const Token id :
       {Token{-1}, Token{tokenizer.vocab_size()}, std::numeric_limits<Token>::max()}) {
    ExpectError(Error::Kind::kInvalidInput, [&] { (void)tokenizer.Decode(Tokens{id}); });
  }
}

TEST(ByteBpeTest, IllFormedTextIsRefused) {
  const Tokenizer tokenizer = ByteBpe();
  for (const char* text : {"\xFF", "a\xC3", "\xED\xA0\x80"}) {
    ExpectError(Error::Kind::kInvalidInput, [&] { (void)tokenizer.Encode(text); });
  }
}

TEST(ByteBpeTest, ABadSpecOrModelIsCorrupt) {
  const std::vector<Piece> pieces = ByteBpePieces(Merges());
  const json good = ByteBpeSpec(pieces.size());
  const std::string model = ModelProto(pieces, false, false);
  const auto expect_corrupt = [](const json& spec, const std::string& bytes) {
    ExpectError(Error::Kind::kCorrupt, [&] { Tokenizer tokenizer(spec, bytes); });
  };
  for (const auto& [key, unused] : good.items()) {
    json spec = good;
    spec.erase(key);
    expect_corrupt(spec, model);
  }
  const std::vector<std::pair<std::string, json>> changes = {
      {"kind", "unigram"},
      {"kind", 3},
      {"vocab_size", pieces.size() - 1},
      {"vocab_size", "many"},
      {"pattern", "(a"},
      {"pattern", 7},
      {"add_bos", true},
      {"special", {{{"text", "x"}, {"id", pieces.size()}}}}};
  for (const auto& [key, value] : changes) {
    json spec = good;
    spec[key] = value;
    expect_corrupt(spec, model);
  }
  expect_corrupt(json(nullptr), model);
  expect_corrupt(json::array(), model);
  json bos = good;
  bos["add_bos"] = true;
  bos["bos_id"] = pieces.size();
  expect_corrupt(bos, model);

  expect_corrupt(good, "");
  expect_corrupt(good, "not a model");
  expect_corrupt(good, model.substr(0, model.size() / 2));
  std::vector<Piece> strange = pieces;
  strange.back().text = "\u4f60";  // no byte character
  expect_corrupt(good, ModelProto(strange, false, false));
}

TEST(ByteBpeTest, APatternThatMatchesTheEmptyStringIsReported) {
  const std::vector<Piece> pieces = ByteBpePieces(Merges());
  json spec = ByteBpeSpec(pieces.size());
  spec["pattern"] = "a*";
  const Tokenizer tokenizer(spec, ModelProto(pieces, false, false));
  ExpectError(Error::Kind::kCorrupt, [&] { (void)tokenizer.Encode("b"); });
}

// A Llama-like vocabulary: ids 0 <unk>, 1 <s>, 2 </s>, 3 to 258 the bytes, then pieces.
std::vector<Piece> LlamaPieces() {
  std::vector<Piece> pieces = {{"<unk>", 0, PieceType::kUnknown},
                               {"<s>", 0, PieceType::kControl},
                               {"</s>", 0, PieceType::kControl}};
  const std::string digits = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    pieces.push_back({"<0x"s + digits[byte / 16] + digits[byte % 16] + ">", 0, PieceType::kByte});
  }
  float rank = 0;
  for (const char* text : {"\u2581h", "\u2581hi", "\u2581\u2581", "hi", "\u2581", "h", "i", "x"}) {
    pieces.push_back({text, -rank++});
  }
  return pieces;
}

Tokenizer Llama(bool add_bos) {
  const std::vector<Piece> pieces = LlamaPieces();
  const json spec = {{"kind", "sentencepiece"},
                     {"vocab_size", pieces.size()},
                     {"special",
                      {{{"text", "<unk>"}, {"id", 0}},
                       {{"text", "<s>"}, {"id", 1}},
                       {{"text", "</s>"}, {"id", 2}}}},
                     {"add_bos", add_bos},
                     {"bos_id", 1},
                     {"dummy_prefix", true}};
  return Tokenizer(spec, ModelProto(pieces, true, true));
}

Token LlamaId(const std::string& piece) {
  const std::vector<Piece> pieces = LlamaPieces();
  const auto found =
      std::find_if(pieces.begin(), pieces.end(), [&](const Piece& p) { return p.text == piece; });
  EXPECT_NE(found, pieces.end()) << piece;
  return static_cast<Token>(found - pieces.begin());
}

TEST(SentencePieceTest, EachStretchGetsADummyPrefix) {
  const Tokenizer tokenizer = Llama(true);
  EXPECT_EQ(tokenizer.Encode("hi</s>hi"), (Tokens{1, LlamaId("\u2581hi"), 2, LlamaId("\u2581hi")}));
  EXPECT_EQ(tokenizer.Encode(" hi"), (Tokens{1, LlamaId("\u2581"), LlamaId("\u2581hi")}));
  EXPECT_EQ(tokenizer.Encode(""), Tokens{1});
}

TEST(SentencePieceTest, UnknownCharactersFallBackToBytes) {
  const Tokenizer tokenizer = Llama(false);
  EXPECT_EQ(tokenizer.Encode("x\u00e9"),
            (Tokens{LlamaId("\u2581"), LlamaId("x"), LlamaId("<0xC3>"), LlamaId("<0xA9>")}));
  EXPECT_EQ(tokenizer.Encode("\0"s), (Tokens{LlamaId("\u2581"), LlamaId("<0x00>")}));
}

TEST(SentencePieceTest, DecodeInvertsEncode) {
  const Tokenizer tokenizer = Llama(false);
  std::mt19937 random(9);
  for (int i = 0; i < 3000; ++i) {
    const std::string text =
        RandomText(random, {"h", "i", "hi", " ", "  ", "x", "\n", "\u00e9", "\U0001F600", "\0"s,
                            "</s>", "<s>", "<unk>", "<0x41>"});
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
  }
}

TEST(SentencePieceTest, SkippedSpecialTokensLeaveTheTextBetween) {
  const Tokenizer tokenizer = Llama(true);
  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode("hi hi</s>"), /*skip_special=*/true), "hi hi");
  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode("hi")), "<s>hi");
}

TEST(StreamDecoderTest, NothingComesOutInsideACharacter) {
  const Tokenizer tokenizer = ByteBpe();
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.Push(ByteId('\xF0')), "");
  EXPECT_EQ(stream.Push(ByteId('\x9F')), "");
  EXPECT_EQ(stream.Push(ByteId('\x98')), "");
  EXPECT_EQ(stream.Push(ByteId('\x80')), "\U0001F600");
  EXPECT_EQ(stream.Push(0), "");  // special tokens are left out
  EXPECT_EQ(stream.Push(ByteId('\xE4')), "");
  EXPECT_EQ(stream.Push(ByteId('a')), "\ufffd"s + "a");
  EXPECT_EQ(stream.Push(ByteId('\xE4')), "");
  EXPECT_EQ(stream.Flush(), "\ufffd");
  EXPECT_EQ(stream.Flush(), "");
}

TEST(StreamDecoderTest, AllThatComesOutIsTheRepairedText) {
  std::mt19937 random(10);
  const std::vector<Tokenizer> tokenizers = [] {
    std::vector<Tokenizer> both;
    both.push_back(ByteBpe());
    both.push_back(Llama(false));
    return both;
  }();
  for (int i = 0; i < 4000; ++i) {
    const Tokenizer& tokenizer = tokenizers[random() % 2];
    const bool skip_special = random() % 2 == 0;
    Tokens ids;
    // Half the draws are lead and continuation bytes, which both vocabularies have at 3 + byte.
    for (auto n = random() % 12; n > 0; --n) {
      const auto size = static_cast<unsigned>(tokenizer.vocab_size());
      ids.push_back(
          static_cast<Token>(random() % 2 == 0 ? random() % size : 3 + 0x80 + random() % 0x80));
    }
    StreamDecoder stream(tokenizer, skip_special);
    std::string text;
    for (const Token id : ids) {
      const std::string more = stream.Push(id);
      EXPECT_TRUE(IsValidUtf8(more));
      text += more;
    }
    text += stream.Flush();
    EXPECT_EQ(text, SanitizeUtf8(tokenizer.Decode(ids, skip_special)).text);
  }
}

}  // namespace
}  // namespace kvr::text

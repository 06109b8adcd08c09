#include "kvr/base/utf8.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace kvr {
namespace {

using namespace std::string_literals;

const std::string kBad = "\xEF\xBF\xBD";  // U+FFFD

TEST(Utf8Test, ValidTextIsLeftAlone) {
  for (const std::string& text :
       {""s, "plain"s, "caf\xC3\xA9"s, "\xE4\xBD\xA0"s, "\xF0\x9F\x98\x80"s, "nul\0nul"s,
        "\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF"s}) {
    const Sanitized result = SanitizeUtf8(text);
    EXPECT_EQ(result.text, text);
    EXPECT_EQ(result.replaced, 0u);
    EXPECT_TRUE(IsValidUtf8(text));
    EXPECT_EQ(UnfinishedTail(text), 0u);
  }
}

// What Python 3's bytes.decode("utf-8", "replace") gives.
TEST(Utf8Test, EachMaximalIllFormedPartBecomesOneReplacement) {
  struct Case {
    std::string bytes, text;
    std::size_t replaced;
  };
  const std::vector<Case> cases = {
      {"\x80", kBad, 1},
      {"a\xFFz", "a" + kBad + "z", 1},
      {"\xC3", kBad, 1},
      {"\xC3(", kBad + "(", 1},
      {"\xC0\xAF", kBad + kBad, 2},                        // overlong: no byte begins a character
      {"\xE0\x80\xAF", kBad + kBad + kBad, 3},             // overlong in three bytes
      {"\xED\xA0\x80", kBad + kBad + kBad, 3},             // surrogate
      {"\xF4\x90\x80\x80", kBad + kBad + kBad + kBad, 4},  // above U+10FFFF
      {"\xF0\x9F\x98", kBad, 1},                           // cut short: one part
      {"\xF0\x9F\x98z", kBad + "z", 1},
      {"\xE4\xBD\xE4\xBD\xA0", kBad + "\xE4\xBD\xA0", 1},
      {"\xF1\x80\xC2\x80\x80", kBad + "\xC2\x80" + kBad, 2},
  };
  for (const Case& c : cases) {
    const Sanitized result = SanitizeUtf8(c.bytes);
    EXPECT_EQ(result.text, c.text);
    EXPECT_EQ(result.replaced, c.replaced);
    EXPECT_FALSE(IsValidUtf8(c.bytes));
    EXPECT_TRUE(IsValidUtf8(result.text));
  }
}

TEST(Utf8Test, TheUnfinishedTailIsWhatMoreBytesCouldComplete) {
  EXPECT_EQ(UnfinishedTail("a\xC3"), 1u);
  EXPECT_EQ(UnfinishedTail("a\xF0\x9F"), 2u);
  EXPECT_EQ(UnfinishedTail("a\xF0\x9F\x98"), 3u);
  EXPECT_EQ(UnfinishedTail("\xE4\xBD"), 2u);
  EXPECT_EQ(UnfinishedTail("a\x80\x80"), 0u);  // no character begins so
  EXPECT_EQ(UnfinishedTail("\xE0\x80"), 0u);   // overlong: lost already
  EXPECT_EQ(UnfinishedTail("\xED\xA0"), 0u);   // surrogate
  EXPECT_EQ(UnfinishedTail("\xC3\xA9"), 0u);
}

TEST(Utf8Test, CuttingBeforeTheUnfinishedTailChangesNothing) {
  std::mt19937 random(1);
  const std::string alphabet = "az\x80\xA0\xBF\xC0\xC3\xE0\xE4\xED\xF0\xF4\x9F\x8F\xFF"s;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes;
    for (auto n = random() % 9; n > 0; --n) bytes += alphabet[random() % alphabet.size()];
    const std::string front = bytes.substr(0, random() % (bytes.size() + 1));
    const std::size_t cut = front.size() - UnfinishedTail(front);
    EXPECT_EQ(SanitizeUtf8(bytes.substr(0, cut)).text + SanitizeUtf8(bytes.substr(cut)).text,
              SanitizeUtf8(bytes).text);
  }
}

}  // namespace
}  // namespace kvr

#include "kvr/text/special_tokens.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvr/base/error.h"

namespace kvr::text {
namespace {

using nlohmann::json;

// "[text]" for ordinary text, "id:text" for a token.
std::string Show(const std::vector<Stretch>& stretches) {
  std::string shown;
  for (const Stretch& s : stretches) {
    shown += s.id ? std::to_string(*s.id) + ":" + std::string(s.text) + "|"
                  : "[" + std::string(s.text) + "]|";
  }
  return shown;
}

SpecialTokens Known() {
  return SpecialTokens(json::parse(R"([
      {"text": "<e>", "id": 0}, {"text": "<e><e>!", "id": 1},
      {"text": "<l>", "id": 2, "lstrip": true},
      {"text": "<r>", "id": 3, "rstrip": true}, {"text": "x<e>", "id": 4}])"));
}

TEST(SpecialTokensTest, TextIsCutAtTokens) {
  EXPECT_EQ(Show(Known().Split("")), "");
  EXPECT_EQ(Show(Known().Split("plain <e")), "[plain <e]|");
  EXPECT_EQ(Show(Known().Split("a<e>b<e>")), "[a]|0:<e>|[b]|0:<e>|");
  EXPECT_EQ(Show(Known().Split("<e><e>")), "0:<e>|0:<e>|");
}

TEST(SpecialTokensTest, TheLeftmostThenTheLongestTokenWins) {
  EXPECT_EQ(Show(Known().Split("<e><e>!")), "1:<e><e>!|");
  EXPECT_EQ(Show(Known().Split("<e><e><e>!")), "0:<e>|1:<e><e>!|");
  EXPECT_EQ(Show(Known().Split("x<e><e>!")), "4:x<e>|0:<e>|[!]|");
}

TEST(SpecialTokensTest, StripFlagsTakeTheWhiteSpaceBeside) {
  EXPECT_EQ(Show(Known().Split("a \n<l> b")), "[a]|2: \n<l>|[ b]|");
  EXPECT_EQ(Show(Known().Split("a <r>\t b")), "[a ]|3:<r>\t |[b]|");
  EXPECT_EQ(Show(Known().Split("<r> <l>")), "3:<r> |2:<l>|");  // taken once, by the first
  EXPECT_EQ(Show(Known().Split("a\u3000\u00a0<l>")), "[a]|2:\u3000\u00a0<l>|");
  EXPECT_EQ(Show(Known().Split("\u200b<l>")), "[\u200b]|2:<l>|");  // not white space
}

TEST(SpecialTokensTest, FindsATokenByItsText) {
  EXPECT_EQ(Known().Find("<e><e>!"), 1);
  EXPECT_EQ(Known().Find("<e"), std::nullopt);
}

TEST(SpecialTokensTest, ABadListIsCorrupt) {
  for (const char* list :
       {R"([{"text": "a"}])", R"([{"id": 1}])", R"([{"text": "", "id": 1}])",
        R"([{"text": "a", "id": -1}])", R"([{"text": "a", "id": 1}, {"text": "b", "id": 1}])",
        R"([{"text": "a", "id": 1}, {"text": "a", "id": 2}])", R"(["a"])", "3"}) {
    try {
      SpecialTokens tokens(json::parse(list));
      ADD_FAILURE() << list << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kCorrupt);
    }
  }
}

}  // namespace
}  // namespace kvr::text

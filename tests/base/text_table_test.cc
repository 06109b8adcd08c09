#include "kvr/base/text_table.h"

#include <gtest/gtest.h>

#include <array>

namespace kvr {
namespace {

TEST(TextTableTest, ColumnsAreAlignedTwoSpacesApartAndNoLineEndsInSpaces) {
  const std::array columns = {TextColumn{"name", false}, TextColumn{"ms"},
                              TextColumn{"note", false}};
  EXPECT_EQ(AlignText(columns, {{"a", "1.5", "long note"}, {"longer", "12", ""}}),
            "name     ms  note\n"
            "a       1.5  long note\n"
            "longer   12\n");
}

TEST(TextTableTest, WidthIsCountedInCodePointsNotBytes) {
  EXPECT_EQ(TextWidth("näh…"), 4u);
  const std::array columns = {TextColumn{"é", false}, TextColumn{"n"}};
  EXPECT_EQ(AlignText(columns, {{"äöü", "1"}, {"abcd", "…"}}),
            "é     n\n"
            "äöü   1\n"
            "abcd  …\n");
}

TEST(TextTableTest, WithoutRowsOnlyTheHeadsRemainAndWithoutColumnsEmptyLines) {
  const std::array columns = {TextColumn{"a"}, TextColumn{"b"}};
  EXPECT_EQ(AlignText(columns, {}), "a  b\n");
  EXPECT_EQ(AlignText({}, {{}}), "\n\n");
}

}  // namespace
}  // namespace kvr

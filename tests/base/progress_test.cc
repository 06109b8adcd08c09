#include "kvr/base/progress.h"

#include <gtest/gtest.h>

#include <sstream>

namespace kvr {
namespace {

using Elsewhere = ProgressLine::Elsewhere;

TEST(ProgressTest, OnATerminalEachLineReplacesTheLastAndTheEndErasesIt) {
  std::ostringstream out;
  {
    ProgressLine progress(Elsewhere::kNone, out, /*terminal=*/true);
    progress.Show("one");
    progress.Show("two");
  }
  EXPECT_EQ(out.str(), "\r\033[Kone\r\033[Ktwo\r\033[K");
}

TEST(ProgressTest, AKeptLineStaysOnTheTerminal) {
  std::ostringstream out;
  {
    ProgressLine progress(Elsewhere::kNone, out, /*terminal=*/true);
    progress.Show("one");
    progress.Keep();
  }
  EXPECT_EQ(out.str(), "\r\033[Kone\n");
}

TEST(ProgressTest, ElsewhereAllLinesNoneOrOneInTenSecondsArePrinted) {
  const auto shown = [](Elsewhere elsewhere) {
    std::ostringstream out;
    ProgressLine progress(elsewhere, out, /*terminal=*/false);
    progress.Show("one");
    progress.Show("two");
    progress.Keep();
    return out.str();
  };
  EXPECT_EQ(shown(Elsewhere::kAll), "one\ntwo\n");
  EXPECT_EQ(shown(Elsewhere::kEveryTenSeconds), "one\n");
  EXPECT_EQ(shown(Elsewhere::kNone), "");
}

TEST(ProgressTest, NothingIsWrittenWhereNothingWasShown) {
  std::ostringstream out;
  { ProgressLine progress(Elsewhere::kAll, out, /*terminal=*/true); }
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressTest, ACountHasABarOnATerminalAndTimeLeftOnceThereIsARate) {
  std::ostringstream terminal, log;
  {
    ProgressLine progress(Elsewhere::kAll, terminal, /*terminal=*/true);
    progress.ShowCount(1, 4, "cells", "warming up");
  }
  EXPECT_EQ(terminal.str(),
            "\r\033[K[#######.....................] 1/4 cells, 0 s (warming up)\r\033[K");
  ProgressLine progress(Elsewhere::kAll, log, /*terminal=*/false);
  progress.ShowCount(0, 0, "cells", "loading");
  progress.ShowCount(2, 4, "cells", "a");
  progress.ShowCount(4, 4, "cells", "b");
  EXPECT_EQ(log.str(),
            "0/0 cells, 0 s (loading)\n2/4 cells, 0 s (a)\n4/4 cells, 0 s, 0 s left (b)\n");
}

}  // namespace
}  // namespace kvr

#include "kvr/record/run_folder.h"

#include <gtest/gtest.h>

#include "testing.h"

namespace kvr::record {
namespace {

namespace fs = std::filesystem;

TEST(RunFolderTest, FoldersOfOneNameAreTwo) {
  const testing::TempFolder root;
  const fs::path base = root.path() / "results" / "n";
  EXPECT_EQ(MakeNewFolder(base, "time"), base / "time");
  EXPECT_EQ(MakeNewFolder(base, "time"), base / "time-2");
  EXPECT_EQ(MakeNewFolder(base, "time"), base / "time-3");
}

}  // namespace
}  // namespace kvr::record

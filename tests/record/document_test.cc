// docs/results_format.md has the very fields that are written and read.
#include <gtest/gtest.h>

#include "kvr/base/file.h"
#include "kvr/record/run.h"

namespace kvr::record {
namespace {

TEST(ResultsFormat, ItsTablesAreTheFieldLists) {
  const std::string document =
      ReadFile(std::filesystem::path(KVR_SOURCE) / "docs" / "results_format.md");
  for (const std::string& rows :
       {DocumentRun(), DocumentModel(), DocumentFill(), DocumentShard(), DocumentMerge(),
        DocumentMergedShard(), DocumentCell(), DocumentWork(), DocumentFidelity(), DocumentLookup(),
        DocumentTrace()}) {
    EXPECT_NE(document.find("|---|---|---|\n" + rows + "\n"), std::string::npos)
        << "the document has no table of these rows:\n"
        << rows;
  }
}

}  // namespace
}  // namespace kvr::record

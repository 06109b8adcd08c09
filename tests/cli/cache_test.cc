// kvr cache from the outside.
#include <gtest/gtest.h>

#include <fstream>

#include "cli_fixture.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"
#include "testing.h"

namespace kvr {
namespace {

namespace fs = std::filesystem;

TEST_F(CliTest, AnUnwritableCacheIsFour) {
  WriteAndRename(folder_.path() / "cache", "a file where a folder should be");
  const Result result = RunTiny({"cache", "add", "A prompt"});
  EXPECT_EQ(result.code, 4) << result.err;
  EXPECT_NE(result.err.find("cache"), std::string::npos);
}

TEST_F(CliTest, CacheListsShowsVerifiesAndRemoves) {
  WriteAndRename(folder_.path() / "p.jsonl",
                 "{\"id\":\"a\",\"text\":\"one prompt\"}\n{\"text\":\"another prompt\"}\n");
  const Result added = RunTiny({"cache", "add", "--jsonl", "p.jsonl", "--json", "a third"});
  ASSERT_EQ(added.code, 0) << added.err;
  EXPECT_EQ(CountLines(added.out), 3u);
  const Json entries = Json::parse(Run({"cache", "ls", "--json"}).out);
  ASSERT_EQ(entries.size(), 3u);
  const std::string id = entries[0]["id"];
  EXPECT_NE(Run({"cache", "show", id.substr(0, 10)}).out.find("a third"), std::string::npos);
  EXPECT_EQ(Run({"cache", "show", "ffff0000ffff0000"}).code, 3);
  EXPECT_EQ(Run({"cache", "verify"}).code, 0);
  EXPECT_EQ(Run({"cache", "rm", id}).code, 0);
  EXPECT_EQ(Json::parse(Run({"cache", "ls", "--json"}).out).size(), 2u);
  EXPECT_EQ(Run({"cache", "rm"}).code, 2);
  EXPECT_EQ(Run({"cache", "rm", "--all"}).code, 0);
  EXPECT_EQ(Json::parse(Run({"cache", "ls", "--json"}).out).size(), 0u);
  EXPECT_EQ(Run({"cache", "ls", "--cache", "nowhere"}).code, 3);
}

TEST_F(CliTest, VerifyFindsADamagedFile) {
  ASSERT_EQ(RunTiny({"cache", "add", "The harbour master writes every ship"}).code, 0);
  for (const auto& file : fs::recursive_directory_iterator(folder_.path() / "cache")) {
    if (file.path().extension() == ".safetensors" &&
        file.path().string().find("blocks") != std::string::npos) {
      std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
      stream.seekp(-2, std::ios::end);
      stream.put('\x55');
      break;
    }
  }
  const Result result = Run({"cache", "verify"});
  EXPECT_EQ(result.code, 3) << result.out;
  EXPECT_EQ(Run({"cache", "verify", "--set-aside"}).code, 0);
  // The entry has lost a block, which is said until the entry goes or is added again.
  EXPECT_EQ(Run({"cache", "verify", "--rebuild-index"}).code, 3);
  ASSERT_EQ(RunTiny({"cache", "add", "The harbour master writes every ship"}).code, 0);
  EXPECT_EQ(Run({"cache", "verify"}).code, 0);
}

}  // namespace
}  // namespace kvr

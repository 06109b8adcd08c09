// What is removed, and what that needs.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "cache/store_fixture.h"
#include "kvr/cache/store.h"

namespace kvr::cache {
namespace {

TEST_F(StoreTest, RemovingNeedsNoSpace) {
  Digest doomed;
  {
    Store store(dir(), key_);
    doomed = Put(store, Range(1, 11)).entry;
    Put(store, Range(21, 31));
  }
  // As on a full disk: no file can grow.
  const auto without_space = [&](auto&& action) {
    return InChild([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit none = {0, 0};
      if (::setrlimit(RLIMIT_FSIZE, &none) != 0) return 1;
      action();
      return 0;
    });
  };
  EXPECT_EQ(without_space([&] { Store(dir(), key_).Remove(doomed); }), 0);
  EXPECT_EQ(FilesIn("entries").size(), 1U);
  EXPECT_EQ(FilesIn("blocks").size(), 3U);
  {
    Store store(dir(), key_);
    EXPECT_EQ(ProblemsOf(store), "");
    EXPECT_EQ(store.List().size(), 1U);
  }
  EXPECT_EQ(without_space([&] { ClearCaches(dir()); }), 0);
  EXPECT_TRUE(FilesIn("entries").empty());
  EXPECT_TRUE(FilesIn("blocks").empty());
}

TEST_F(StoreTest, ClearingRemovesEverythingOfEveryCacheAndNothingForeign) {
  {
    Store store(dir(), key_), other(dir(), TinyKey(8));
    Put(store, Range(1, 18));
    Overwrite(StoreFolder() / "quarantine" / "old.safetensors", "rotten");
  }
  Overwrite(dir() / "notes.txt", "mine");
  Overwrite(StoreFolder() / "entries" / "mine.txt", "mine");
  fs::create_directories(dir() / "folder");
  const fs::path later = dir() / std::string(64, 'a');  // of a version to come
  fs::create_directories(later / "entries");
  Overwrite(later / "key.json", "{\"format_version\": 99}");
  const ClearResult cleared = ClearCaches(dir());
  EXPECT_EQ(cleared.entries, 1U);
  EXPECT_EQ(cleared.set_aside, 1U);
  EXPECT_FALSE(fs::exists(later / "key.json"));
  EXPECT_EQ(ReadFile(dir() / "notes.txt"), "mine");
  EXPECT_EQ(ReadFile(StoreFolder() / "entries" / "mine.txt"), "mine");
  EXPECT_EQ(cleared.left.size(), 3U);
  for (const auto& file : fs::recursive_directory_iterator(dir())) {
    EXPECT_NE(file.path().extension(), ".safetensors") << file.path();
  }
  // What is left is no cache, and no damage.
  std::vector<std::string> damaged;
  EXPECT_TRUE(ListCacheFolders(dir(), &damaged).empty());
  EXPECT_TRUE(damaged.empty());
  EXPECT_TRUE(Store(dir(), key_).List().empty());
  EXPECT_EQ(ListCacheFolders(dir(), &damaged).size(), 1U);
}

}  // namespace
}  // namespace kvr::cache

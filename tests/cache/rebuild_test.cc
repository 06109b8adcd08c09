// The index is derived from the files, and made from them again.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <random>

#include "cache/store_fixture.h"
#include "kvr/cache/store.h"
#include "testing.h"

namespace kvr::cache {
namespace {

// UPDATE chain ... in the index, behind the program's back.
void Change(const fs::path& index, const char* sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(index.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
}

TEST_F(StoreTest, ARebuiltIndexEqualsTheOldOne) {
  const auto fill = [&] {
    Store store(dir(), key_);
    for (Token i = 1; i < 6; ++i) {
      NewEntry entry = EntryOf(Range(1, 3 * i));
      entry.embedding = {0.6F, 0.8F};
      entry.encoder = "e";
      Put(store, entry);
      Put(store, Range(i, 2 * i));
    }
  };
  fill();
  const std::string original = IndexDump();
  const fs::path index = StoreFolder() / "index.sqlite";
  const std::string good = Contents(index);
  const auto reopen_rebuilds = [&](const char* what) {
    const auto [opened, rebuilt] = Open();
    Store& store = *opened;
    EXPECT_TRUE(rebuilt) << what;
    EXPECT_EQ(IndexDump(), original) << what;
    EXPECT_EQ(ProblemsOf(store), "") << what;
  };
  {
    const auto [opened, rebuilt] = Open();
    Store& store = *opened;
    EXPECT_FALSE(rebuilt);
    store.RebuildIndex();
    EXPECT_EQ(IndexDump(), original);
  }
  fs::remove(index);
  reopen_rebuilds("missing");
  Overwrite(index, "");
  reopen_rebuilds("empty");
  Overwrite(index, std::string(5000, 'x'));
  reopen_rebuilds("no database");
  Overwrite(index, good.substr(0, good.size() / 2));
  reopen_rebuilds("truncated");
  {
    fs::remove(index);
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(index.c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, "CREATE TABLE blocks(x)", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  }
  reopen_rebuilds("another program's");
  {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(index.c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version=2", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  }
  reopen_rebuilds("another version's");
  {
    CacheKey other = TinyKey(8);
    { Store store(dir(), other); }
    fs::copy_file(dir() / Hex(other.Hash()) / "index.sqlite", index,
                  fs::copy_options::overwrite_existing);
  }
  reopen_rebuilds("another key's");
}

TEST_F(StoreTest, ADamagedIndexNeverCausesAWrongRestoreOrACrash) {
  {
    Store store(dir(), key_);
    for (Token i = 1; i < 30; ++i) Put(store, Range(i, 2 * i));
  }
  const fs::path index = StoreFolder() / "index.sqlite";
  const std::string good = Contents(index);
  std::mt19937 random(5);
  for (int round = 0; round < 60 / testing::kOneIn; ++round) {
    std::string bad = good;
    for (int i = 0; i < 20; ++i) bad[random() % bad.size()] = static_cast<char>(random());
    Overwrite(index, bad);
    Store store(dir(), key_);
    for (Token i = 1; i < 30; ++i) {
      const Tokens prompt = Range(i, 2 * i + 1);
      RestoreAndCompare(store, PlanFor(store, prompt), prompt);
    }
  }
}

TEST_F(StoreTest, AnIndexDamagedWhileOpenIsReportedAndReplaced) {
  Store store(dir(), key_);
  for (Token i = 1; i < 30; ++i) Put(store, Range(i, 2 * i));
  const fs::path index = StoreFolder() / "index.sqlite";
  {
    std::fstream file(index, std::ios::in | std::ios::out | std::ios::binary);
    const std::string zeros(fs::file_size(index) - 100, '\0');
    file.seekp(24);  // the change counter: pages that SQLite holds in memory are stale now
    file.write("\x7f\1\1\1", 4);
    file.seekp(100);  // the rest of the header stays
    file.write(zeros.data(), static_cast<std::streamsize>(zeros.size()));
  }
  EXPECT_NE(ProblemsOf(store), "");
  store.Verify(true);
  EXPECT_EQ(ProblemsOf(store), "");
  EXPECT_EQ(store.List().size(), 29U);
}

TEST_F(StoreTest, AnIndexReplacedByAnotherProcessIsNoticed) {
  Store store(dir(), key_);
  Put(store, Range(1, 6));
  fs::remove(StoreFolder() / "index.sqlite");
  {
    const auto [opened, rebuilt] = Open();
    Store& other = *opened;
    EXPECT_TRUE(rebuilt);
    Put(other, Range(11, 16));
  }
  Put(store, Range(21, 26));
  EXPECT_EQ(store.List().size(), 3U);
  EXPECT_EQ(Store(dir(), key_).List().size(), 3U);
  EXPECT_EQ(ProblemsOf(store), "");
}

TEST_F(StoreTest, AnIndexRowWithoutTokensIsNotBelieved) {
  const Tokens prompt = Range(1, 11);
  {
    Store store(dir(), key_);
    Put(store, prompt);
  }
  for (const auto mode : {Store::Mode::kReadOnly, Store::Mode::kReadWrite}) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open((StoreFolder() / "index.sqlite").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, "UPDATE entries SET tokens = x'';", nullptr, nullptr, nullptr),
              SQLITE_OK);
    sqlite3_close(db);
    const auto [opened, rebuilt] = Open({.mode = mode});
    Store& store = *opened;
    EXPECT_TRUE(rebuilt);
    EXPECT_EQ(store.List().size(), 1U);
    EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 10U);
  }
}

TEST_F(StoreTest, AWrongIndexRowRemovesNoOtherEntrysBlock) {
  Digest doomed;
  const Tokens kept = Range(101, 111);
  {
    Store store(dir(), key_);
    doomed = Put(store, Range(1, 11)).entry;
    Put(store, kept);
  }
  // The rows of the entry that stays name other blocks than its own.
  Change(StoreFolder() / "index.sqlite", "UPDATE chain SET hash = zeroblob(32) WHERE position = 0");
  Store store(dir(), key_);
  store.Remove(doomed);
  store.RebuildIndex();
  EXPECT_EQ(ProblemsOf(store), "");
  EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, kept), kept).tokens, 10U);
}

}  // namespace
}  // namespace kvr::cache

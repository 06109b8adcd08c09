// No damage to a file, nor an index that lies, is ever restored.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include "cache/store_fixture.h"
#include "kvr/cache/entry.h"
#include "kvr/cache/store.h"
#include "testing.h"

namespace kvr::cache {
namespace {

TEST_F(StoreTest, AFlippedByteIsNeverRestored) {
  for (const Codec codec : kCodecs) {
    SCOPED_TRACE(ToString(codec));
    key_.codec = codec;
    Store store(dir(), key_);
    const Tokens prompt = Range(1, 13);
    Put(store, Range(1, 12));
    const Plan plan = PlanFor(store, prompt);
    const fs::path path = BlockPath(plan.blocks[1].hash);
    const std::string good = Contents(path);
    for (std::size_t at = 0; at < good.size(); at += testing::kOneIn) {
      for (const char flip : {'\x01', '\x29', '\x80'}) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ flip);
        Overwrite(path, bad);
        const RestoreResult result = RestoreAndCompare(store, plan, prompt, 1);
        ASSERT_EQ(result.tokens, 4U) << at;
        ASSERT_EQ(result.corrupt, 1U) << at;
        ASSERT_EQ(result.limited_by, LimitedBy::kCorrupt) << at;
        ASSERT_FALSE(fs::exists(path)) << at;
      }
    }
    // It is no longer planned, and the next Put heals it.
    EXPECT_EQ(PlanFor(store, prompt).depth, 4U);
    EXPECT_EQ(PlanFor(store, prompt).limited_by, LimitedBy::kEvicted);
    const PutResult again = Put(store, Range(1, 12));
    EXPECT_FALSE(again.created);
    EXPECT_EQ(again.blocks_written, 1U);
    EXPECT_EQ(Contents(path), good);
    EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 12U);
    EXPECT_EQ(ProblemsOf(store), "");
  }
}

TEST_F(StoreTest, ATruncatedOrExtendedBlockIsNeverRestored) {
  for (const Codec codec : kCodecs) {
    SCOPED_TRACE(ToString(codec));
    key_.codec = codec;
    Store store(dir(), key_);
    const Tokens prompt = Range(1, 13);
    Put(store, Range(1, 12));
    const Plan plan = PlanFor(store, prompt);
    const fs::path path = BlockPath(plan.blocks[0].hash);
    const std::string good = Contents(path);
    for (std::size_t length = 0; length <= good.size() + 1; ++length) {
      Overwrite(path, length > good.size() ? good + "x" : good.substr(0, length));
      const RestoreResult result = RestoreAndCompare(store, plan, prompt, 2);
      ASSERT_EQ(result.tokens, length == good.size() ? 12U : 0U) << length;
      ASSERT_EQ(result.corrupt, length == good.size() ? 0U : 1U) << length;
    }
  }
}

TEST_F(StoreTest, ABlockUnderAnotherNameOrOfAnotherKeyIsNeverRestored) {
  Store store(dir(), key_);
  const Tokens prompt = Range(1, 13);
  Put(store, Range(1, 12));
  const Plan plan = PlanFor(store, prompt);
  const fs::path first = BlockPath(plan.blocks[0].hash);
  const std::string good = Contents(first);
  Overwrite(first, Contents(BlockPath(plan.blocks[1].hash)));
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).corrupt, 1U);

  // Equal parent and tokens, and so an equal name, can be made for another key by hand only.
  CacheKey other_key = key_;
  other_key.threads = 7;
  const BlockFormat other(other_key);
  Buffer buffer(key_.shape, 12);
  const auto link = Chain(key_.Hash(), Range(1, 12), 4)[0];
  other.Write(first, link, Range(1, 4), buffer.view());
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).corrupt, 1U);
  CacheKey other_shape = key_;
  std::swap(other_shape.shape.layers, other_shape.shape.kv_heads);
  BlockFormat(other_shape).Write(first, link, Range(1, 4), buffer.view());
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).corrupt, 1U);
  // Another version, everything else in order.
  std::string newer = good;
  newer.replace(newer.find("\"version\":\"2\""), 13, "\"version\":\"3\"");
  Overwrite(first, newer);
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).corrupt, 1U);
  Overwrite(first, good);
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).tokens, 12U);
}

TEST_F(StoreTest, AMissingBlockShortensTheHit) {
  Store store(dir(), key_);
  const Tokens prompt = Range(1, 13);
  Put(store, Range(1, 12));
  const Plan plan = PlanFor(store, prompt);
  fs::remove(BlockPath(plan.blocks[2].hash));
  const RestoreResult result = RestoreAndCompare(store, plan, prompt, 3);
  EXPECT_EQ(result.tokens, 8U);
  EXPECT_EQ(result.missing, 1U);
  EXPECT_EQ(result.limited_by, LimitedBy::kEvicted);
}

TEST_F(StoreTest, AnIndexThatLiesCannotCauseAWrongRestore) {
  Store store(dir(), key_);
  Put(store, Range(1, 12));
  Plan plan = PlanFor(store, Range(1, 13));
  const Tokens prompt = {1, 2, 3, 4, 5, 6, 77, 78, 9, 10, 11, 12};
  plan.tokens = prompt;  // as if the index had said that these tokens are stored there
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).tokens, 4U);
  Plan swapped = PlanFor(store, Range(1, 13));
  swapped.blocks.erase(swapped.blocks.begin());
  swapped.blocks[0].first = 0;
  swapped.tokens = Range(5, 8);
  swapped.blocks.resize(1);
  swapped.depth = 4;
  EXPECT_EQ(store.Restore(swapped, Buffer(key_.shape, 40).view(), 1).tokens, 0U);
  EXPECT_EQ(ProblemsOf(store), "");  // nothing was set aside: the files are sound
}

TEST_F(StoreTest, ADamagedEntryIsNeverRead) {
  Store store(dir(), key_);
  NewEntry entry = EntryOf(Range(1, 6));
  entry.embedding = {0.6F, 0.8F};
  entry.encoder = "e";
  const Digest id = Put(store, entry).entry;
  const fs::path path = FilesIn("entries").at(0);
  const std::string good = Contents(path);
  const auto kind = [&](const std::string& contents) {
    Overwrite(path, contents);
    return ErrorKindOf([&] { (void)ReadEntry(path, id, key_.Hash(), 4); });
  };
  EXPECT_EQ(kind(good), std::nullopt);
  for (std::size_t at = 0; at < good.size(); ++at) {
    ASSERT_EQ(kind(good.substr(0, at)), Error::Kind::kCorrupt) << at;
    for (const char flip : {'\x01', '\x29', '\x80'}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      ASSERT_EQ(kind(bad), Error::Kind::kCorrupt) << at;
    }
  }
}

TEST_F(StoreTest, PuttingOverARottenBlockWritesItAnew) {
  const Tokens prompt = Range(1, 18);
  Store store(dir(), key_);
  Put(store, Range(1, 11));
  for (const auto& file : fs::recursive_directory_iterator(StoreFolder() / "blocks")) {
    if (file.is_regular_file()) FlipABit(file.path());
  }
  EXPECT_EQ(Put(store, prompt).blocks_shared, 0U);
  EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 17U);
}

TEST_F(StoreTest, ABlockRepairedMeanwhileIsNotSetAside) {
  const Tokens prompt = Range(1, 11);
  Store writer(dir(), key_);
  Put(writer, prompt);
  FlipABit(FilesIn("blocks").front());
  int found_damaged = 0;
  Store reader(dir(), key_, {.before_step = [&](std::string_view name) {
                 if (name != "set aside") return;
                 ++found_damaged;
                 Put(writer, prompt);
               }});
  EXPECT_EQ(RestoreAndCompare(reader, PlanFor(reader, prompt), prompt).corrupt, 1U);
  EXPECT_EQ(found_damaged, 1);
  EXPECT_TRUE(FilesIn("quarantine").empty());
  EXPECT_EQ(RestoreAndCompare(reader, PlanFor(reader, prompt), prompt).tokens, 10U);
}

TEST_F(StoreTest, NothingIsSetAsideWhileAnotherWrites) {
  const Tokens prompt = Range(1, 11);
  Store store(dir(), key_);
  Put(store, prompt);
  FlipABit(FilesIn("blocks").front());
  {
    const UniqueFd other(::open((StoreFolder() / "lock").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
    EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).corrupt, 1U);
    EXPECT_TRUE(FilesIn("quarantine").empty());
  }
  EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).corrupt, 1U);
  EXPECT_EQ(FilesIn("quarantine").size(), 1U);
}

TEST_F(StoreTest, VerifyNamesEachProblemAndSetsDamageAside) {
  Store store(dir(), key_);
  Put(store, Range(1, 8));
  Put(store, Range(11, 18));
  const Digest doomed = Put(store, Range(21, 22)).entry;
  EXPECT_EQ(ProblemsOf(store), "");
  const fs::path block = BlockPath(Chain(key_.Hash(), Range(1, 8), 4)[1].hash);
  std::string bad = Contents(block);
  bad.back() ^= 1;
  Overwrite(block, bad);
  Overwrite(StoreFolder() / "entries" / (Hex(doomed) + ".safetensors"), "nonsense");
  Overwrite(StoreFolder() / "entries" / "notes.txt", "foreign");
  Overwrite(StoreFolder() / "blocks" / "x.safetensors", "foreign");
  Overwrite(StoreFolder() / "entries" / "a.safetensors.tmp-1-1", "left over");
  const auto before = Snapshot();
  const std::string problems = ProblemsOf(store);
  EXPECT_EQ(Snapshot(), before);  // without the flag nothing moves
  for (const char* expected :
       {"the payload's checksum is", "block 2 of 2", "states a header of", "entries/notes.txt",
        "blocks/x.safetensors", "left by an interrupted write", "has no sound file"}) {
    EXPECT_NE(problems.find(expected), std::string::npos) << expected << "\n" << problems;
  }
  const VerifyReport report = store.Verify(true);
  EXPECT_EQ(report.set_aside, 2U);
  EXPECT_EQ(report.entries, 2U);
  EXPECT_EQ(report.blocks, 4U);
  EXPECT_EQ(report.unused_blocks, 1U);
  EXPECT_EQ(FilesIn("quarantine").size(), 2U);
  EXPECT_EQ(store.List().size(), 2U);
  EXPECT_EQ(ProblemsOf(store).find("index.sqlite"), std::string::npos);
  EXPECT_EQ(store.RemoveUnused().blocks_removed, 1U);
}

}  // namespace
}  // namespace kvr::cache

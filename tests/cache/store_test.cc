// What is put is restored, and what a store says of it.
#include "kvr/cache/store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "cache/store_fixture.h"

namespace kvr::cache {
namespace {

TEST_F(StoreTest, WhatWasPutIsRestoredForManyShapes) {
  for (const auto& [layers, heads, dim, block] :
       {std::array{1U, 1U, 1U, 1U}, std::array{1U, 1U, 1U, 5U}, std::array{3U, 2U, 8U, 4U},
        std::array{24U, 16U, 4U, 16U}, std::array{2U, 300U, 2U, 3U}, std::array{1U, 1U, 64U, 128U},
        std::array{2U, 1U, 4096U, 32U}}) {
    key_.shape = {.layers = layers, .kv_heads = heads, .head_dim = dim};
    key_.block_tokens = block;
    for (const Codec codec : kCodecs) {
      SCOPED_TRACE(ToString(codec));
      key_.codec = codec;
      Store store(dir(), key_);
      const Tokens tokens = Range(1, static_cast<Token>(2 * block + 1));
      const PutResult put = Put(store, tokens);
      EXPECT_TRUE(put.created);
      EXPECT_EQ(put.blocks_written, 3U);
      Tokens prompt = tokens;
      prompt.push_back(77777);
      for (const int threads : {1, 2, 5}) {
        const Plan plan = PlanFor(store, prompt);
        EXPECT_EQ(plan.depth, tokens.size());
        const RestoreResult result = RestoreAndCompare(store, plan, prompt, threads);
        EXPECT_EQ(result.tokens, tokens.size());
        EXPECT_EQ(result.limited_by, LimitedBy::kEndOfEntry);
        EXPECT_EQ(result.bytes, StoredBytes(codec, key_.shape, tokens.size()));
      }
      EXPECT_EQ(ProblemsOf(store), "");
    }
  }
}

TEST_F(StoreTest, EveryDepthOfAnEntryIsRestored) {
  for (const Codec codec : kCodecs) {
    SCOPED_TRACE(ToString(codec));
    key_.codec = codec;
    Store store(dir(), key_);
    const Tokens tokens = Range(1, 11);
    Put(store, tokens);
    for (std::size_t keep = 0; keep <= tokens.size(); ++keep) {
      Tokens prompt(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(keep));
      prompt.insert(prompt.end(), {500, 501});
      EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, keep);
      EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt, Match::kBlock), prompt).tokens,
                keep / 4 * 4);
      EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt, Match::kWhole), prompt).tokens,
                keep == tokens.size() ? keep : 0);
    }
    EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, tokens), tokens).tokens, tokens.size() - 1);
  }
}

TEST_F(StoreTest, AnEntrySurvivesReopening) {
  NewEntry entry = EntryOf(Range(1, 10));
  entry.text = "a \"text\" with é, \n and " + std::string("\0nul", 4);
  entry.embedding = std::vector<float>(384, 0.05F);
  entry.encoder = "minilm";
  entry.pieces_embedded = 256;
  entry.pieces_total = 300;
  const Digest id = [&] {
    Store store(dir(), key_);
    return Put(store, entry).entry;
  }();
  const auto [opened, rebuilt] = Open();
  const Store& store = *opened;
  EXPECT_FALSE(rebuilt);
  const EntryInfo info = InfoOf(store, id);
  EXPECT_EQ(info.row.text, entry.text);
  EXPECT_EQ(info.row.tokens, entry.tokens);
  EXPECT_EQ(info.row.embedding, entry.embedding);
  EXPECT_EQ(info.row.encoder, "minilm");
  EXPECT_EQ(info.row.pieces_embedded, 256U);
  EXPECT_EQ(info.row.pieces_total, 300U);
  EXPECT_EQ(info.blocks, 3U);
  EXPECT_EQ(info.shared_blocks, 0U);
}

TEST_F(StoreTest, PuttingTwiceIsANoOp) {
  Store store(dir(), key_);
  const PutResult first = Put(store, Range(1, 10));
  const auto files = Snapshot();
  const std::string index = IndexDump();
  const PutResult second = Put(store, Range(1, 10));
  EXPECT_EQ(second.entry, first.entry);
  EXPECT_FALSE(second.created);
  EXPECT_EQ(second.blocks_written, 0U);
  EXPECT_EQ(second.blocks_shared, 3U);
  EXPECT_EQ(second.bytes_written, 0U);
  EXPECT_EQ(Snapshot(), files);
  EXPECT_EQ(IndexDump(), index);
}

TEST_F(StoreTest, AGrowingConversationAddsOnlyItsNewTokens) {
  Store store(dir(), key_);
  Put(store, Range(1, 10));
  const PutResult longer = Put(store, Range(1, 17));
  EXPECT_EQ(longer.blocks_shared, 2U);   // 1-4, 5-8
  EXPECT_EQ(longer.blocks_written, 3U);  // 9-12, 13-16, 17; the tail 9-10 stays the first's
  EXPECT_EQ(InfoOf(store, longer.entry).shared_blocks, 2U);
  const Tokens prompt = Range(1, 18);
  EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 17U);
  EXPECT_EQ(ProblemsOf(store), "");
}

TEST_F(StoreTest, RemoveKeepsWhatOthersShare) {
  Store store(dir(), key_);
  const Digest a = Put(store, Range(1, 10)).entry;
  const Digest b = Put(store, Range(1, 17)).entry;
  const RemoveResult removed = store.Remove(b);
  EXPECT_EQ(removed.blocks_removed, 3U);
  EXPECT_EQ(ProblemsOf(store), "");
  const Tokens prompt = Range(1, 18);
  EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 10U);
  EXPECT_EQ(ErrorKindOf([&] { store.Remove(b); }), Error::Kind::kNotFound);
  store.Remove(a);
  EXPECT_TRUE(store.List().empty());
  EXPECT_TRUE(Snapshot().empty());
}

TEST_F(StoreTest, HitsAndAccessTimesAreWrittenAtClose) {
  Digest id;
  {
    Store store(dir(), key_);
    id = Put(store, Range(1, 10)).entry;
    const Tokens prompt = Range(1, 12);
    for (int i = 0; i < 3; ++i) RestoreAndCompare(store, PlanFor(store, prompt), prompt);
    EXPECT_EQ(InfoOf(store, id).row.hits, 3U);
  }
  Store store(dir(), key_);
  const EntryRow row = InfoOf(store, id).row;
  EXPECT_EQ(row.hits, 3U);
  EXPECT_GE(row.last_access_us, row.created_us);
  store.RebuildIndex();
  EXPECT_EQ(InfoOf(store, id).row.hits, 3U);
}

TEST_F(StoreTest, WhatIsNotExactIsNotStored) {
  Store store(dir(), key_);
  const NewEntry entry = EntryOf(Range(1, 10));
  Buffer buffer(key_.shape, 12);
  const auto kind = [&](const NewEntry& e, std::uint32_t exact) {
    return ErrorKindOf([&] { store.Put(e, buffer.view(), exact); });
  };
  EXPECT_EQ(kind(entry, 9), Error::Kind::kInvalidInput);
  EXPECT_EQ(kind(entry, 13), Error::Kind::kInvalidInput);
  EXPECT_EQ(kind(EntryOf({}), 12), Error::Kind::kInvalidInput);
  EXPECT_EQ(kind(EntryOf({1, -2}), 12), Error::Kind::kInvalidInput);
  NewEntry latin1 = entry;
  latin1.text = "\xe9";
  EXPECT_EQ(kind(latin1, 12), Error::Kind::kInvalidInput);
  NewEntry endless = entry;
  endless.text = std::string(std::size_t{17} << 20, 'x');
  EXPECT_EQ(kind(endless, 12), Error::Kind::kInvalidInput);
  EXPECT_TRUE(Snapshot().empty());
  EXPECT_EQ(kind(entry, 12), std::nullopt);
}

TEST_F(StoreTest, ABufferTooSmallIsRefusedBeforeAnythingIsRead) {
  Store store(dir(), key_);
  Put(store, Range(1, 12));
  const Tokens prompt = Range(1, 10);  // uses 9 tokens, reads 12
  const Plan plan = PlanFor(store, prompt);
  EXPECT_EQ(plan.CapacityNeeded(), 12U);
  Buffer buffer(key_.shape, 11);
  EXPECT_EQ(ErrorKindOf([&] { store.Restore(plan, buffer.view(), 1); }),
            Error::Kind::kInvalidInput);
}

TEST_F(StoreTest, ReadOnlyServesReadsAndWritesNothing) {
  EXPECT_EQ(ErrorKindOf([&] { Store(dir(), key_, {.mode = Store::Mode::kReadOnly}); }),
            Error::Kind::kNotFound);
  {
    Store store(dir(), key_);
    Put(store, Range(1, 10));
  }
  const Tokens prompt = Range(1, 13);
  const auto serves = [&] {
    Store store(dir(), key_, {.mode = Store::Mode::kReadOnly});
    EXPECT_EQ(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 10U);
    EXPECT_EQ(ProblemsOf(store), "");
    EXPECT_EQ(ErrorKindOf([&] { Put(store, Range(1, 3)); }), Error::Kind::kIo);
    EXPECT_EQ(ErrorKindOf([&] { store.Remove(store.List()[0].row.id); }), Error::Kind::kIo);
    EXPECT_EQ(ErrorKindOf([&] { store.RebuildIndex(); }), Error::Kind::kIo);
  };
  serves();
  Overwrite(StoreFolder() / "index.sqlite", "nonsense");
  serves();
  fs::remove(StoreFolder() / "index.sqlite");
  serves();
  EXPECT_FALSE(fs::exists(StoreFolder() / "index.sqlite"));
  // A bad block is refused, and stays where it is.
  const fs::path block = FilesIn("blocks").at(0);
  Overwrite(block, "nonsense");
  Store store(dir(), key_, {.mode = Store::Mode::kReadOnly});
  EXPECT_LT(RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens, 10U);
  EXPECT_EQ(Contents(block), "nonsense");
}

TEST_F(StoreTest, AFolderThatCannotBeWrittenIsOpenedReadOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without rights";
  {
    Store store(dir(), key_);
    Put(store, Range(1, 10));
  }
  for (const auto& file : fs::recursive_directory_iterator(dir())) {
    fs::permissions(file, fs::perms::others_read | fs::perms::others_exec, fs::perm_options::add);
  }
  fs::permissions(dir(), fs::perms::others_read | fs::perms::others_exec, fs::perm_options::add);
  const Tokens prompt = Range(1, 13);
  const auto before = Snapshot();
  EXPECT_EQ(InChild([&] {
              if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) {
                return 1;
              }
              Store store(dir(), key_);
              if (!store.read_only()) return 2;
              if (RestoreAndCompare(store, PlanFor(store, prompt), prompt).tokens != 10) return 3;
              CacheKey absent = key_;
              absent.threads = 3;
              return ErrorKindOf([&] { Store(dir(), absent); }) == Error::Kind::kIo ? 0 : 4;
            }),
            0);
  EXPECT_EQ(Snapshot(), before);
}

TEST_F(StoreTest, AFileWhereAFolderShouldBeIsAnError) {
  Overwrite(StoreFolder(), "a file");
  EXPECT_EQ(ErrorKindOf([&] { Store(dir(), key_); }), Error::Kind::kIo);
  Overwrite(dir() / "file", "");
  EXPECT_EQ(ErrorKindOf([&] { Store(dir() / "file", key_); }), Error::Kind::kIo);
}

TEST_F(StoreTest, ADamagedKeyFileIsReportedAndWrittenAnew) {
  {
    Store store(dir(), key_);
    Put(store, Range(1, 11));
  }
  for (const std::string& damaged : {TinyKey(8).ToJson(), std::string("{}"), std::string()}) {
    Overwrite(StoreFolder() / "key.json", damaged);
    {
      Store reader(dir(), key_, {.mode = Store::Mode::kReadOnly});
      EXPECT_NE(ProblemsOf(reader).find("key.json"), std::string::npos);
      EXPECT_EQ(reader.List().size(), 1U);
    }
    Store store(dir(), key_);
    EXPECT_EQ(ReadFile(StoreFolder() / "key.json"), key_.ToJson());
    EXPECT_EQ(ProblemsOf(store), "");
  }
}

TEST_F(StoreTest, ResidencyIsToldAndDroppingAsksForLess) {
  key_.shape = {.layers = 4, .kv_heads = 4, .head_dim = 64};
  key_.block_tokens = 64;
  Store store(dir(), key_);
  const Tokens prompt = Range(1, 130);
  Put(store, Range(1, 128));
  const Plan plan = PlanFor(store, prompt);
  EXPECT_EQ(RestoreAndCompare(store, plan, prompt).resident_fraction, 1.0);
  store.DropFromPageCache(plan);
  const RestoreResult cold = RestoreAndCompare(store, plan, prompt);
  EXPECT_EQ(cold.tokens, 128U);
  if (cold.resident_fraction == 1.0) {
    GTEST_SKIP() << "this file system keeps its pages (tmpfs does)";
  }
  EXPECT_EQ(cold.resident_fraction, 0.0);
}

// A codec that is no member of the program's list: multiples of an eighth in one byte, without
// scales.
TEST_F(StoreTest, AddingOneCodecIsOneFileAndOneLine) {
  const Codec eighths{
      .name = "eighths",
      .element = "I8",
      .element_bytes = 1,
      .scale_bytes = 0,
      .encode =
          [](const std::byte* from, std::uint64_t tokens, std::uint32_t head_dim,
             std::byte* numbers, std::byte*) {
            for (std::uint64_t i = 0; i < tokens * head_dim; ++i) {
              float number = 0;
              std::memcpy(&number, from + i * sizeof number, sizeof number);
              if (!(std::abs(number) < 15)) return false;
              numbers[i] = static_cast<std::byte>(static_cast<std::int8_t>(std::lrint(number * 8)));
            }
            return true;
          },
      .decode =
          [](const std::byte* numbers, const std::byte*, std::uint64_t tokens,
             std::uint32_t head_dim, std::byte* to) {
            for (std::uint64_t i = 0; i < tokens * head_dim; ++i) {
              const float number = static_cast<float>(static_cast<std::int8_t>(numbers[i])) / 8;
              std::memcpy(to + i * sizeof number, &number, sizeof number);
            }
          }};
  std::vector<Codec> more(kCodecs.begin(), kCodecs.end());
  more.push_back(eighths);
  EXPECT_EQ(CodecNames(more),
            (std::vector<std::string>{"fp32", "bf16", "fp16", "int8", "eighths"}));
  EXPECT_EQ(CodecFromString("eighths", more), eighths);
  EXPECT_FALSE(IsExact(eighths));
  key_.codec = eighths;
  const Tokens prompt = Range(1, 12);
  for (const bool reopened : {false, true}) {
    Store store(dir(), key_);
    if (!reopened) Put(store, Range(1, 11));
    const RestoreResult restored = RestoreAndCompare(store, PlanFor(store, prompt), prompt);
    EXPECT_EQ(restored.tokens, 11U);
    EXPECT_EQ(restored.bytes, StoredBytes(eighths, key_.shape, 11));
    EXPECT_EQ(ProblemsOf(store), "");
  }
}

}  // namespace
}  // namespace kvr::cache

#include "kvr/cache/key.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "cache/fixture.h"
#include "kvr/base/file.h"

namespace kvr::cache {
namespace {

CacheKey OddKey() {
  CacheKey key = TinyKey();
  key.cpu_model = "test \"7\" é\n";
  return key;
}

TEST(KeyTest, HashIsThatOfPythonsCanonicalJson) {
  // hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":"),
  //                           ensure_ascii=False).encode())
  EXPECT_EQ(Hex(OddKey().Hash()),
            "053f30d2408b2cc409ed367b7fc2c02a11a2dd3acc9949100a1fbe5d3c07e472");
}

TEST(KeyTest, EveryFieldChangesTheHash) {
  const std::vector<void (*)(CacheKey&)> changes = {
      [](CacheKey& k) { k.model_fingerprint[0] = '2'; },
      [](CacheKey& k) { ++k.shape.layers; },
      [](CacheKey& k) { ++k.shape.kv_heads; },
      [](CacheKey& k) { ++k.shape.head_dim; },
      [](CacheKey& k) { ++k.block_tokens; },
      [](CacheKey& k) { k.codec = kInt8; },
      [](CacheKey& k) { k.device = "cuda"; },
      [](CacheKey& k) { k.cpu_model += "x"; },
      [](CacheKey& k) { k.instruction_set = "avx512"; },
      [](CacheKey& k) { ++k.threads; },
      [](CacheKey& k) { k.libtorch_version += ".1"; },
      [](CacheKey& k) { k.kernel_path = "plain"; }};
  std::set<Digest> hashes = {TinyKey().Hash()};
  for (const auto& change : changes) {
    CacheKey key = TinyKey();
    change(key);
    EXPECT_TRUE(hashes.insert(key.Hash()).second);
  }
}

TEST(KeyTest, JsonReadsBack) { EXPECT_EQ(CacheKey::FromJson(OddKey().ToJson(), "x"), OddKey()); }

TEST(KeyTest, ForeignJsonIsRefused) {
  const std::string good = TinyKey().ToJson();
  const auto kind = [](std::string text) {
    return ErrorKindOf([&] { (void)CacheKey::FromJson(text, "x"); });
  };
  EXPECT_EQ(kind(""), Error::Kind::kCorrupt);
  EXPECT_EQ(kind("{}"), Error::Kind::kCorrupt);
  EXPECT_EQ(kind("[1]"), Error::Kind::kCorrupt);
  EXPECT_EQ(kind(good + " "), Error::Kind::kCorrupt);
  EXPECT_EQ(kind(good.substr(1)), Error::Kind::kCorrupt);
  std::string newer = good;
  newer.replace(newer.find("\"format_version\":2"), 18, "\"format_version\":3");
  EXPECT_EQ(kind(newer), Error::Kind::kIncompatible);
  std::string codec = good;
  codec.replace(codec.find("\"codec\":\"fp32\""), 14, "\"codec\":\"zip7\"");
  EXPECT_EQ(kind(codec), Error::Kind::kIncompatible);
  std::string negative = good;
  negative.replace(negative.find("\"threads\":1"), 11, "\"threads\":-1");
  EXPECT_EQ(kind(negative), Error::Kind::kCorrupt);
}

TEST(KeyTest, ImpossibleKeysAreRefused) {
  const auto kind = [](void (*change)(CacheKey&)) {
    CacheKey key = TinyKey();
    change(key);
    return ErrorKindOf([&] { key.Check(); });
  };
  EXPECT_EQ(kind([](CacheKey&) {}), std::nullopt);
  EXPECT_EQ(kind([](CacheKey& k) { k.shape.layers = 0; }), Error::Kind::kInvalidInput);
  EXPECT_EQ(kind([](CacheKey& k) { k.shape.head_dim = kMaxDimension + 1; }),
            Error::Kind::kInvalidInput);
  EXPECT_EQ(kind([](CacheKey& k) { k.block_tokens = 0; }), Error::Kind::kInvalidInput);
  CacheKey latin1 = TinyKey();
  latin1.cpu_model = "\xe9";
  EXPECT_EQ(ErrorKindOf([&] { (void)latin1.Hash(); }), Error::Kind::kInvalidInput);
}

using CacheFoldersTest = CacheTest;

TEST_F(CacheFoldersTest, AreListedByTheirKeys) {
  EXPECT_TRUE(ListCacheFolders(dir()).empty());
  { const Store one(dir(), TinyKey(4)), two(dir(), TinyKey(8)); }
  fs::create_directory(dir() / "foreign");
  fs::copy(dir() / Hex(TinyKey(4).Hash()), dir() / "renamed", fs::copy_options::recursive);
  std::set<std::uint32_t> found;
  for (const CacheFolder& folder : ListCacheFolders(dir())) found.insert(folder.key.block_tokens);
  EXPECT_EQ(found, (std::set<std::uint32_t>{4, 8}));
  EXPECT_EQ(ErrorKindOf([&] { (void)ListCacheFolders(dir() / "none"); }), Error::Kind::kNotFound);
}

TEST_F(CacheFoldersTest, WhatIsNoKeyFileNeitherHangsNorHidesTheOthers) {
  { const Store one(dir(), TinyKey(4)), two(dir(), TinyKey(8)), three(dir(), TinyKey(16)); }
  const auto key_file = [&](std::uint32_t block_tokens) {
    return dir() / Hex(TinyKey(block_tokens).Hash()) / "key.json";
  };
  fs::remove(key_file(4));
  ASSERT_EQ(::mkfifo(key_file(4).c_str(), 0600), 0);
  fs::resize_file(key_file(8), std::uint64_t{1} << 40);  // sparse
  std::vector<std::string> damaged;
  const std::vector<CacheFolder> found = ListCacheFolders(dir(), &damaged);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].key.block_tokens, 16U);
  EXPECT_EQ(damaged.size(), 2U);
}

}  // namespace
}  // namespace kvr::cache

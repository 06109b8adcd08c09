#include "kvr/cache/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "cache/fixture.h"
#include "kvr/base/file.h"

namespace kvr::cache {
namespace {

class SafetensorsTest : public CacheTest {
 protected:
  static SafetensorsHeader Sample() {
    SafetensorsHeader header;
    header.metadata = {{"text", "a \"quoted\" é\n"}, {"empty", ""}};
    header.tensors = {{"a", {"F32", {2, 3}}},
                      {"b", {"I32", {2}}},
                      {"c", {"BF16", {2}}},
                      {"d", {"F16", {2}}},
                      {"e", {"I8", {4}}}};
    return header;
  }
  static std::string WithJson(const std::string& json, std::size_t data_bytes) {
    const std::uint64_t length = json.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes + json + std::string(data_bytes, 'd');
  }
  std::optional<Error::Kind> KindOf(const std::string& contents) {
    Overwrite(dir() / "f", contents);
    return ErrorKindOf([&] { (void)Read(); });
  }
  SafetensorsHeader Read() {
    const UniqueFd fd = OpenForRead(dir() / "f");
    return SafetensorsHeader::Read(fd.get(), dir() / "f", &offset_);
  }
  std::uint64_t offset_ = 0;
};

TEST_F(SafetensorsTest, HeaderReadsBack) {
  const std::string head = Sample().Encode();
  EXPECT_EQ(head.size() % 64, 0U);
  ASSERT_EQ(KindOf(head + std::string(44, 'd')), std::nullopt);
  EXPECT_EQ(Read(), Sample());
  EXPECT_EQ(offset_, head.size());
}

TEST_F(SafetensorsTest, EveryTruncationAndExtensionIsRefused) {
  const std::string whole = Sample().Encode() + std::string(44, 'd');
  for (std::size_t length = 0; length < whole.size(); ++length) {
    ASSERT_EQ(KindOf(whole.substr(0, length)), Error::Kind::kCorrupt) << length;
  }
  EXPECT_EQ(KindOf(whole + "x"), Error::Kind::kCorrupt);
}

TEST_F(SafetensorsTest, AStatedLengthIsNotAllocatedBeforeItIsChecked) {
  for (const std::uint64_t length :
       {kMaxHeaderBytes + 1, std::uint64_t{1} << 40, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    std::string contents(100, ' ');
    std::memcpy(contents.data(), &length, 8);
    EXPECT_EQ(KindOf(contents), Error::Kind::kCorrupt) << length;
  }
  // Also when the file is that long: a hole costs no disk.
  const std::uint64_t length = kMaxHeaderBytes + 1;
  std::string contents(8, ' ');
  std::memcpy(contents.data(), &length, 8);
  Overwrite(dir() / "f", contents);
  fs::resize_file(dir() / "f", 3 * kMaxHeaderBytes);
  EXPECT_EQ(ErrorKindOf([&] { (void)Read(); }), Error::Kind::kCorrupt);
}

TEST_F(SafetensorsTest, HeadersOfAnyOtherFormAreRefused) {
  const std::string tensor = R"("a":{"data_offsets":[0,8],"dtype":"F32","shape":[2]})";
  // The one form that is accepted, to show that the others fail for their difference alone.
  std::string good = R"({"__metadata__":{},)" + tensor + "}";
  good.resize((good.size() + 8 + 63) / 64 * 64 - 8, ' ');
  ASSERT_EQ(KindOf(WithJson(good, 8)), std::nullopt);
  const std::string bad[] = {
      "",
      "{}",
      "null",
      "[]",
      "{" + tensor + "}",
      R"({"__metadata__":{},)" + tensor + "," + tensor + "}",
      R"({"__metadata__":{"x":1},)" + tensor + "}",
      R"({"__metadata__":{}, )" + tensor + "}",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F32","shape":[3]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F32","shape":[-2]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F32","shape":[2.0]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F64","shape":[1]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F16","shape":[2]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"I8","shape":[4]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F32","shape":2}})",
      R"({"__metadata__":{},"a":{"data_offsets":[4,12],"dtype":"F32","shape":[2]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[8,0],"dtype":"F32","shape":[2]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F32",)"
      R"("shape":[4294967296,4294967296,2]}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"dtype":"F32","shape":[2],"x":1}})",
      R"({"__metadata__":{},"a":{"data_offsets":[0,8],"shape":[2]}})",
      "{\"__metadata__\":{\"x\":\"\xff\"}," + tensor + "}",
      std::string(1 << 20, '['),
  };
  for (std::string json : bad) {
    json.resize((json.size() + 8 + 63) / 64 * 64 - 8, ' ');
    EXPECT_EQ(KindOf(WithJson(json, 8)), Error::Kind::kCorrupt) << json.substr(0, 200);
  }
  std::string tab = good;
  tab.back() = '\t';
  EXPECT_EQ(KindOf(WithJson(tab, 8)), Error::Kind::kCorrupt);
}

TEST_F(SafetensorsTest, WhatCannotBeReadIsNotWritten) {
  SafetensorsHeader header = Sample();
  header.metadata["text"] = "\xff";
  EXPECT_EQ(ErrorKindOf([&] { (void)header.Encode(); }), Error::Kind::kInvalidInput);
  header.metadata["text"] = std::string(kMaxHeaderBytes, 'x');
  EXPECT_EQ(ErrorKindOf([&] { (void)header.Encode(); }), Error::Kind::kInvalidInput);
}

}  // namespace
}  // namespace kvr::cache

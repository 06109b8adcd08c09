#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>

#include "kvr/base/clock.h"
#include "kvr/base/file.h"
#include "kvr/base/hash.h"
#include "kvr/base/json.h"
#include "testing.h"

namespace kvr {
namespace {

using testing::TempFolder;

TEST(ErrorTest, EachKindHasItsExitCode) {
  EXPECT_EQ(Error(Error::Kind::kCheckFailed, "").exit_code(), 1);
  EXPECT_EQ(InvalidInput("").exit_code(), 2);
  EXPECT_EQ(NotFound("").exit_code(), 3);
  EXPECT_EQ(Corrupt("").exit_code(), 3);
  EXPECT_EQ(Incompatible("").exit_code(), 3);
  EXPECT_EQ(Resource("").exit_code(), 4);
  EXPECT_EQ(IoError("x", EACCES).exit_code(), 4);
  EXPECT_EQ(Error(Error::Kind::kInterrupted, "").exit_code(), 130);
}

TEST(ErrorTest, AFullDiskIsAResourceAndAMissingFileIsNotFound) {
  EXPECT_EQ(IoError("x", ENOSPC).kind(), Error::Kind::kResource);
  EXPECT_EQ(IoError("x", ENOENT).kind(), Error::Kind::kNotFound);
  EXPECT_EQ(IoError("x", EIO).kind(), Error::Kind::kIo);
}

// FIPS 180-4's example.
TEST(HashTest, Sha256OfAbc) {
  const std::string hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  EXPECT_EQ(Hex(Sha256Of("abc")), hex);
  EXPECT_EQ(Hex(Sha256().Update("a").Update("bc").Finish()), hex);
  EXPECT_EQ(DigestFromHex(hex), Sha256Of("abc"));
}

TEST(HashTest, RefusesWhatIsNoDigest) {
  EXPECT_THROW((void)DigestFromHex("ba78"), Error);
  EXPECT_THROW((void)DigestFromHex(std::string(64, 'G')), Error);
}

TEST(HashTest, PiecesHashAsTheWhole) {
  const std::string text(5000, 'k');
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  Xxh3 whole, pieces;
  whole.Update(bytes);
  pieces.Update(bytes.first(7));
  pieces.Update(bytes.subspan(7));
  EXPECT_EQ(whole.FinishHex(), pieces.FinishHex());
  EXPECT_EQ(whole.FinishHex().size(), 32u);
}

TEST(FileTest, WritesWholeFilesAndLeavesNothingBesides) {
  const TempFolder folder;
  WriteAndRename(folder.path() / "a", "first");
  WriteAndRename(folder.path() / "a", "second");
  EXPECT_EQ(ReadFile(folder.path() / "a"), "second");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(FileTest, AFailedWriteLeavesTheOldFile) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "taken");
  std::string message;
  KVR_EXPECT_ERROR(WriteAndRename(folder.path() / "taken", "x"), kIo, message);
  EXPECT_NE(message.find("taken"), std::string::npos);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(FileTest, ReadsMorePartsThanOneCallTakes) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>('a' + i % 26);
  WriteAndRename(folder.path() / "a", text);
  const UniqueFd fd = OpenForRead(folder.path() / "a");
  std::string found(text.size() - 3, '\0');
  std::vector<iovec> parts;
  for (char& c : found) parts.push_back({&c, 1});
  parts.insert(parts.begin() + 10, iovec{nullptr, 0});
  ReadScattered(fd.get(), 3, parts, folder.path() / "a");
  EXPECT_EQ(found, text.substr(3));
}

TEST(FileTest, AFileThatEndsEarlyIsCorrupt) {
  const TempFolder folder;
  WriteAndRename(folder.path() / "a", "short");
  const UniqueFd fd = OpenForRead(folder.path() / "a");
  std::string found(10, '\0');
  iovec part{found.data(), found.size()};
  std::string message;
  KVR_EXPECT_ERROR(ReadScattered(fd.get(), 0, {&part, 1}, "a"), kCorrupt, message);
}

TEST(FileTest, WhatWasWrittenIsResidentAndAnEmptyFileHasNoPages) {
  const TempFolder folder;
  WriteAndRename(folder.path() / "a", std::string(100'000, 'x'));
  WriteAndRename(folder.path() / "b", "");
  EXPECT_EQ(ResidentFraction(OpenForRead(folder.path() / "a").get(), "a"), 1.0);
  EXPECT_EQ(ResidentFraction(OpenForRead(folder.path() / "b").get(), "b"), std::nullopt);
}

TEST(FileTest, AFolderOverAFileIsRefused) {
  const TempFolder folder;
  WriteAndRename(folder.path() / "a", "x");
  EXPECT_THROW(CreateFolders(folder.path() / "a" / "b"), Error);
  CreateFolders(folder.path() / "c" / "d");
  EXPECT_TRUE(std::filesystem::is_directory(folder.path() / "c" / "d"));
  std::string message;
  KVR_EXPECT_ERROR(CreateFolders("/proc/nowhere"), kIo, message);
}

TEST(JsonTest, CommentsAreAllowedAndMistakesNameThePlace) {
  EXPECT_EQ(ParseJson("{\"a\": 1} // one", "x")["a"], 1);
  std::string message;
  KVR_EXPECT_ERROR((void)ParseJson("{\"a\": }", "some/file.json"), kInvalidInput, message);
  EXPECT_NE(message.find("some/file.json"), std::string::npos);
  EXPECT_NE(message.find("line 1"), std::string::npos);
}

TEST(JsonTest, DeepNestingAndKeysTwiceAreRefused) {
  std::string message;
  (void)ParseJson(std::string(60, '[') + std::string(60, ']'), "here");
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep;
    for (int i = 0; i < 100000; ++i) deep += open;
    KVR_EXPECT_ERROR((void)ParseJson(deep, "here"), kInvalidInput, message);
    EXPECT_NE(message.find("here: nested"), std::string::npos) << message;
  }
  KVR_EXPECT_ERROR((void)ParseJson(R"({"a": {"b": 1, "c": 2, "b": 3}})", "here"), kInvalidInput,
                   message);
  EXPECT_NE(message.find("\"b\" is there twice"), std::string::npos) << message;
  EXPECT_EQ(ParseJson(R"([{"b": 1}, {"b": {"b": 2}}])", "here")[1]["b"]["b"], 2);
}

TEST(JsonTest, AnErrorDoesNotRepeatTheText) {
  std::string message;
  KVR_EXPECT_ERROR((void)ParseJson("{\"text\": \"secret secret", "here"), kInvalidInput, message);
  EXPECT_EQ(message.find("secret"), std::string::npos) << message;
}

TEST(JsonTest, NearMissesAreSuggestedAndFarOnesAreNot) {
  EXPECT_EQ(NearMiss("polices", {"policies", "match"}), "policies");
  EXPECT_EQ(NearMiss("policy", {"policies", "match"}), "policies");
  EXPECT_EQ(NearMiss("tokne", {"whole", "token", "block"}), "token");
  EXPECT_EQ(NearMiss("zzz", {"whole", "token", "block"}), "");
  EXPECT_EQ(NearMiss("anything", {"models", "seed", "threads"}), "");
}

TEST(ClockTest, TimestampsAreUtc) {
  EXPECT_EQ(UtcTimestamp(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(UtcTimestamp(1700000000), "2023-11-14T22:13:20Z");
}

}  // namespace
}  // namespace kvr

#include "kvr/model/archive.h"

#include <gtest/gtest.h>

#include <span>

#include "kvr/base/file.h"
#include "kvr/base/hash.h"
#include "kvr/model/encoder.h"
#include "kvr/model/language_model.h"
#include "kvr/model/runtime.h"
#include "testing.h"

namespace kvr::model {
namespace {

using testing::TempFolder;
using testing::TinyModel;

constexpr std::size_t kDigestChars = 32, kSealChars = 109;

std::string Digest128(std::string_view bytes) {
  Xxh3 digest;
  digest.Update(std::as_bytes(std::span(bytes)));
  return digest.FinishHex();
}

// The bytes with the seal that docs/archive_format.md says they should have; `metadata` is what is
// now written in the record of that name.
std::string Sealed(std::string bytes, const std::string& metadata) {
  constexpr std::size_t kPart = std::size_t{4} << 20;
  if (!metadata.empty()) {
    bytes.replace(bytes.size() - kSealChars + 11, kDigestChars, Digest128(metadata));
  }
  bytes.resize(bytes.size() - kDigestChars);
  std::string digests;
  for (std::size_t at = 0; at < bytes.size(); at += kPart) {
    digests += Digest128(std::string_view(bytes).substr(at, kPart));
  }
  return bytes + Digest128(digests);
}

// An archive whose metadata has `from` replaced by `to`, and which is whole otherwise. Where `to`
// is shorter, spaces follow.
std::string WithMetadata(const std::string& name, const std::string& from, std::string to) {
  std::string bytes = ReadFile(TinyModel(name));
  const std::size_t record = bytes.find("{\n \"format_version\"");
  const std::size_t end = bytes.find("\n}", record) + 2;
  const std::size_t at = bytes.find(from, record);
  EXPECT_LT(at, end) << from << " is not in the metadata";
  EXPECT_LE(to.size(), from.size());
  to.resize(from.size(), ' ');
  bytes.replace(at, from.size(), to);
  return Sealed(bytes, bytes.substr(record, end - record));
}

void Load(const std::filesystem::path& path) {
  if (ReadArchiveInfo(path).kind == "encoder") {
    (void)Encoder(path);
  } else {
    (void)LanguageModel(path, {});
  }
}

TEST(ArchiveTest, SaysWhatIsWrongWithAFile) {
  SetUpRuntime(2);
  const TempFolder folder;
  std::string message;
  KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "absent.pt"), kNotFound, message);
  EXPECT_NE(message.find("export_model.py"), std::string::npos);
  WriteAndRename(folder.path() / "text.pt", "this is no archive");
  KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "text.pt"), kCorrupt, message);
  KVR_EXPECT_ERROR(LanguageModel(TinyModel("tiny-bert"), {}), kIncompatible, message);
  EXPECT_NE(message.find("encoder"), std::string::npos);
  // Cut off: the directory at the end of the archive is gone.
  const std::string whole = ReadFile(TinyModel("tiny-gpt2"));
  for (const double part : {0.1, 0.5, 0.99}) {
    const auto size = static_cast<std::size_t>(static_cast<double>(whole.size()) * part);
    WriteAndRename(folder.path() / "cut.pt", whole.substr(0, size));
    KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "cut.pt"), kCorrupt, message);
  }
}

TEST(ArchiveTest, AnyFlippedByteIsFoundWhenTheArchiveIsLoaded) {
  SetUpRuntime(2);
  const TempFolder folder;
  const std::filesystem::path path = folder.path() / "flipped.pt";
  for (const char* name : {"tiny-gpt2", "tiny-llama", "tiny-bert"}) {
    const std::string whole = ReadFile(TinyModel(name));
    WriteAndRename(path, whole);
    Load(path);
    // Code, weights, metadata, tokenizer, the zip file's own records and the seal.
    for (int i = 0; i <= 60; ++i) {
      std::string bytes = whole;
      char& byte = bytes[(bytes.size() - 1) * static_cast<std::size_t>(i) / 60];
      byte = static_cast<char>(byte ^ 0x40);
      WriteAndRename(path, bytes);
      std::string message;
      KVR_EXPECT_ERROR(Load(path), kCorrupt, message);
      EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    }
  }
}

TEST(ArchiveTest, ADamagedTokenizerIsFoundWithoutLoadingTheWeights) {
  const TempFolder folder;
  for (const char* name : {"tiny-gpt2", "tiny-bert"}) {
    std::string bytes = ReadFile(TinyModel(name));
    const std::string words = ReadArchiveInfo(TinyModel(name)).tokenizer_model;
    bytes[bytes.find(words) + words.size() / 2] ^= 1;
    WriteAndRename(folder.path() / "words.pt", bytes);
    std::string message;
    KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "words.pt"), kCorrupt, message);
    EXPECT_NE(message.find("tokenizer.model"), std::string::npos) << message;
  }
}

TEST(ArchiveTest, AnotherFormatVersionIsIncompatible) {
  const TempFolder folder;
  std::string message;
  WriteAndRename(folder.path() / "v7.pt",
                 WithMetadata("tiny-gpt2", "\"format_version\": 3", "\"format_version\": 7"));
  KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "v7.pt"), kIncompatible, message);
  EXPECT_NE(message.find("7"), std::string::npos) << message;
  // Those of an older version have no seal.
  std::string old = WithMetadata("tiny-gpt2", "\"format_version\": 3", "\"format_version\": 2");
  old.resize(old.size() - kSealChars);
  old[old.size() - 2] = old[old.size() - 1] = 0;
  WriteAndRename(folder.path() / "v2.pt", old);
  KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "v2.pt"), kIncompatible, message);
  EXPECT_NE(message.find("export the model again"), std::string::npos) << message;
}

TEST(ArchiveTest, ImpossibleMetadataIsRefusedByTheFieldsName) {
  const TempFolder folder;
  struct Case {
    const char *field, *from, *to;
  };
  for (const Case& wrong :
       {Case{"kv_heads", "\"kv_heads\": 4", "\"kv_heads\": 0"},
        Case{"kv_heads", "\"kv_heads\": 4", "\"kv_heads\": 9"},
        Case{"heads", "\"heads\": 4", "\"heads\": 0"},
        Case{"vocab", "\"vocab\": 400", "\"vocab\": 0"},
        Case{"vocab", "\"vocab\": 400", "\"vocab\": -40"},
        Case{"vocab_size", "\"vocab_size\": 400", "\"vocab_size\": 401"},
        Case{"layers", "\"layers\": 2", "\"layer_\": 2"},
        Case{"layers", "\"layers\": 2", "\"layers\":[]"},
        Case{"layers", "\"layers\": 2,\n", "\"layers\":2.5,"},
        Case{"width", "\"width\": 64", "\"width\":1e9"},
        Case{"context_tokens", "\"context_tokens\": 160", "\"context_tokens\": -1"},
        Case{"eos_ids", "\"eos_ids\": [\n  0\n ]", "\"eos_ids\": [400]"},
        Case{"id", "\"id\": 0", "\"id\":-1"},
        Case{"name", "\"name\": \"tiny-gpt2\"", "\"name\": 3"}}) {
    SCOPED_TRACE(std::string(wrong.from) + " -> " + wrong.to);
    WriteAndRename(folder.path() / "wrong.pt", WithMetadata("tiny-gpt2", wrong.from, wrong.to));
    std::string message;
    KVR_EXPECT_ERROR((void)ReadArchiveInfo(folder.path() / "wrong.pt"), kCorrupt, message);
    EXPECT_NE(message.find(wrong.field), std::string::npos) << message;
  }
}

TEST(ArchiveTest, VerifyFindsAWeightThatChangedBeforeTheSeal) {
  SetUpRuntime(2);
  VerifyWeights(ReadArchiveInfo(TinyModel("tiny-gpt2")));
  VerifyWeights(ReadArchiveInfo(TinyModel("tiny-bert")));
  std::string bytes = ReadFile(TinyModel("tiny-gpt2"));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 0x55);
  const TempFolder folder;
  WriteAndRename(folder.path() / "flipped.pt", Sealed(bytes, ""));
  std::string message;
  KVR_EXPECT_ERROR(VerifyWeights(ReadArchiveInfo(folder.path() / "flipped.pt")), kCorrupt, message);
  EXPECT_NE(message.find("SHA-256"), std::string::npos);
}

TEST(ArchiveTest, RandomWeightsAreSaidToBe) {
  SetUpRuntime(2);
  EXPECT_TRUE(ReadArchiveInfo(TinyModel("tiny-random")).random_weights);
  EXPECT_FALSE(ReadArchiveInfo(TinyModel("tiny-llama")).random_weights);
  EXPECT_NE(ReadArchiveInfo(TinyModel("tiny-llama")).fingerprint,
            ReadArchiveInfo(TinyModel("tiny-random")).fingerprint);
}

}  // namespace
}  // namespace kvr::model

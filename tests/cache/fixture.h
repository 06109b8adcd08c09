// What the cache's tests share: a folder of their own, a tiny shape, and a stand-in for a model
// whose keys and values depend, as a real one's do, on a token and everything before it.
#pragma once

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/cache/block.h"
#include "kvr/cache/store.h"

namespace kvr::cache {

namespace fs = std::filesystem;

inline const Codec kBf16 = CodecFromString("bf16");
inline const Codec kFp16 = CodecFromString("fp16");
inline const Codec kInt8 = CodecFromString("int8");

inline CacheKey TinyKey(std::uint32_t block_tokens = 4) {
  CacheKey key;
  key.model_fingerprint = std::string(64, '1');
  key.shape = {.layers = 2, .kv_heads = 3, .head_dim = 4};
  key.block_tokens = block_tokens;
  key.cpu_model = "test";
  key.instruction_set = "avx2";
  key.libtorch_version = "0.0";
  key.kernel_path = "avx2_1";
  return key;
}

class Buffer {
 public:
  Buffer(const KvShape& shape, std::uint32_t capacity)
      : shape_(shape),
        keys_(shape.PayloadBytes(capacity) / 2),
        values_(keys_.size()),
        view_{keys_.data(), values_.data(), capacity} {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  const KvBufferView& view() const { return view_; }
  std::byte* At(bool values, std::uint64_t run, std::uint32_t position) {
    return (values ? values_ : keys_).data() +
           shape_.RunBytes(run * view_.capacity_tokens + position);
  }

  // What the "model" computes for `tokens`.
  void Fill(const Tokens& tokens) {
    std::uint64_t state = 1;
    for (std::uint32_t position = 0; position < tokens.size(); ++position) {
      state = state * 6364136223846793005U + static_cast<std::uint64_t>(tokens[position]) * 2 + 1;
      for (std::uint64_t run = 0; run < shape_.Runs(); ++run) {
        for (const bool values : {false, true}) {
          std::byte* const at = At(values, run, position);
          for (std::uint64_t i = 0; i < shape_.head_dim; ++i) {
            // 24 bits of noise: a number from -8 to 8 that no narrower codec holds as it is.
            const std::uint64_t place = (run * shape_.head_dim + i) * 2 + (values ? 1 : 0);
            const std::uint64_t noise = (state + place) * 0x9E3779B97F4A7C15U;
            const float number =
                static_cast<float>(static_cast<std::int32_t>(noise >> 40) - (1 << 23)) * 0x1p-20F;
            std::memcpy(at + i * sizeof number, &number, sizeof number);
          }
        }
      }
    }
  }

  // Makes of every number what `codec` would give back.
  void RoundTrip(Codec codec) {
    if (IsExact(codec)) return;
    const std::uint64_t tokens = shape_.Runs() * view_.capacity_tokens;
    std::vector<std::byte> numbers(tokens * shape_.head_dim * codec.element_bytes);
    std::vector<std::byte> scales(tokens * sizeof(float));
    for (std::vector<std::byte>* tensor : {&keys_, &values_}) {
      EXPECT_TRUE(
          codec.encode(tensor->data(), tokens, shape_.head_dim, numbers.data(), scales.data()));
      codec.decode(numbers.data(), scales.data(), tokens, shape_.head_dim, tensor->data());
    }
  }

  // Whether positions 0 .. count - 1 are bitwise the other's.
  bool SamePrefix(Buffer& other, std::uint32_t count) {
    for (std::uint64_t run = 0; run < shape_.Runs(); ++run) {
      for (const bool values : {false, true}) {
        if (count > 0 && std::memcmp(At(values, run, 0), other.At(values, run, 0),
                                     shape_.RunBytes(count)) != 0) {
          return false;
        }
      }
    }
    return true;
  }

 private:
  KvShape shape_;
  std::vector<std::byte> keys_;
  std::vector<std::byte> values_;
  KvBufferView view_;
};

class CacheTest : public ::testing::Test {
 protected:
  CacheTest() {
    spdlog::set_level(spdlog::level::off);
    std::string name = (fs::temp_directory_path() / "kvr-cache-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    dir_ = name;
  }
  ~CacheTest() override { fs::remove_all(dir_); }

  const fs::path& dir() const { return dir_; }
  fs::path StoreFolder() const { return dir_ / Hex(key_.Hash()); }
  // As docs/cache_format.md says.
  fs::path BlockPath(const Digest& hash) const {
    const std::string hex = Hex(hash);
    return StoreFolder() / "blocks" / hex.substr(0, 2) / (hex + ".safetensors");
  }

  static NewEntry EntryOf(const Tokens& tokens) {
    NewEntry entry;
    entry.tokens = tokens;
    for (const Token token : tokens) entry.text += "t" + std::to_string(token) + " ";
    return entry;
  }
  PutResult Put(Store& store, const Tokens& tokens) { return Put(store, EntryOf(tokens)); }
  PutResult Put(Store& store, const NewEntry& entry) {
    const auto count = static_cast<std::uint32_t>(entry.tokens.size());
    Buffer buffer(key_.shape, count + 3);
    buffer.Fill(entry.tokens);
    return store.Put(entry, buffer.view(), count);
  }
  static Plan PlanFor(const Store& store, const Tokens& prompt, Match match = Match::kToken) {
    return store.MakeView().WalkPrefix({.tokens = prompt, .text = {}, .match = match});
  }
  // Restores the plan and checks every restored position, bit for bit, against the model and what
  // the codec makes of it; returns the outcome.
  RestoreResult RestoreAndCompare(Store& store, const Plan& plan, const Tokens& prompt,
                                  int threads = 1) {
    const auto capacity =
        std::max(static_cast<std::uint32_t>(prompt.size()), plan.CapacityNeeded()) + 2;
    Buffer expected(key_.shape, capacity);
    expected.Fill(prompt);
    expected.RoundTrip(key_.codec);
    Buffer buffer(key_.shape, capacity);
    const RestoreResult result = store.Restore(plan, buffer.view(), threads);
    EXPECT_TRUE(buffer.SamePrefix(expected, result.tokens));
    return result;
  }
  // Every problem on a line; empty when all is well.
  static std::string ProblemsOf(Store& store) {
    std::string text;
    for (const auto& problem : store.Verify(false).problems) {
      text += problem.path + ": " + problem.what + "\n";
    }
    return text;
  }
  std::vector<fs::path> FilesIn(const char* folder) const {
    std::vector<fs::path> paths;
    for (const auto& file : fs::recursive_directory_iterator(StoreFolder() / folder)) {
      if (file.is_regular_file()) paths.push_back(file.path());
    }
    return paths;
  }
  static std::string Contents(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void Overwrite(const fs::path& path, const std::string& contents) {
    std::ofstream(path, std::ios::binary) << contents;
  }
  // As a disk rots: one bit of the file's last byte.
  static void FlipABit(const fs::path& path) {
    std::string bytes = ReadFile(path);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    Overwrite(path, bytes);
  }

  CacheKey key_ = TinyKey();

 private:
  fs::path dir_;
};

// The kind of Error that `action` throws, or nothing.
template <typename Action>
std::optional<Error::Kind> ErrorKindOf(Action&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.kind();
  }
  return std::nullopt;
}

}  // namespace kvr::cache

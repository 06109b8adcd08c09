#include "kvr/cache/codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "cache/fixture.h"

namespace kvr::cache {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const std::array kLossy = {kBf16, kFp16, kInt8};

struct Encoded {
  bool held = false;
  std::vector<std::byte> numbers;
  std::vector<float> scales;
};

Encoded EncodeAll(Codec codec, const std::vector<float>& numbers, std::uint32_t head_dim) {
  const std::uint64_t tokens = numbers.size() / head_dim;
  Encoded encoded;
  encoded.numbers.resize(numbers.size() * codec.element_bytes);
  encoded.scales.resize(tokens);
  encoded.held = codec.encode(std::as_bytes(std::span(numbers)).data(), tokens, head_dim,
                              encoded.numbers.data(),
                              std::as_writable_bytes(std::span(encoded.scales)).data());
  return encoded;
}

std::vector<float> DecodeAll(Codec codec, const Encoded& encoded, std::uint32_t head_dim) {
  std::vector<float> numbers(encoded.numbers.size() / codec.element_bytes);
  codec.decode(encoded.numbers.data(), std::as_bytes(std::span(encoded.scales)).data(),
               numbers.size() / head_dim, head_dim,
               std::as_writable_bytes(std::span(numbers)).data());
  return numbers;
}

// One number, by a 16-bit codec.
std::uint16_t Pattern(Codec codec, float number) {
  const Encoded encoded = EncodeAll(codec, {number}, 1);
  EXPECT_TRUE(encoded.held) << ToString(codec) << " " << number;
  std::uint16_t pattern = 0;
  std::memcpy(&pattern, encoded.numbers.data(), sizeof pattern);
  return pattern;
}

float Number(Codec codec, std::uint16_t pattern) {
  Encoded encoded{.held = true, .numbers = std::vector<std::byte>(2), .scales = {0}};
  std::memcpy(encoded.numbers.data(), &pattern, sizeof pattern);
  return DecodeAll(codec, encoded, 1)[0];
}

// What IEEE 754 says that the pattern means.
float Meaning(Codec codec, std::uint16_t pattern) {
  const int mantissa_bits = codec == kBf16 ? 7 : 10;
  const int bias = codec == kBf16 ? 127 : 15;
  const int exponent = (pattern & 0x7FFF) >> mantissa_bits;
  const int mantissa = pattern & ((1 << mantissa_bits) - 1);
  double value = 0;
  if (exponent == 2 * bias + 1) {
    value = mantissa == 0 ? kInfinity : kNan;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - bias - mantissa_bits);
  } else {
    value = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
  }
  return static_cast<float>(pattern & 0x8000 ? -value : value);
}

// Numbers of all magnitudes that the codec holds, and of both signs.
std::vector<float> SomeNumbers(Codec codec, std::size_t count) {
  std::mt19937 random(7);
  std::vector<float> numbers;
  while (numbers.size() < count) {
    const auto number = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isfinite(number) || (codec == kFp16 && std::abs(number) >= 65520) ||
        (codec == kBf16 && std::abs(number) >= 3.39617753e38F)) {
      continue;
    }
    numbers.push_back(number);
  }
  return numbers;
}

TEST(CodecTest, NamesReadBackAndOthersAreRefused) {
  for (const Codec codec : kCodecs) EXPECT_EQ(CodecFromString(ToString(codec)), codec);
  EXPECT_EQ(ErrorKindOf([] { (void)CodecFromString("raw"); }), Error::Kind::kInvalidInput);
  EXPECT_TRUE(IsExact(Codec::kFp32));
  for (const Codec codec : kLossy) EXPECT_FALSE(IsExact(codec));
}

TEST(CodecTest, StoredBytesAreThoseOfTheFormat) {
  const KvShape shape = {.layers = 30, .kv_heads = 3, .head_dim = 64};
  EXPECT_EQ(StoredBytes(Codec::kFp32, shape, 1), 2U * 90 * 256);
  EXPECT_EQ(StoredBytes(kBf16, shape, 1), 2U * 90 * 128);
  EXPECT_EQ(StoredBytes(kFp16, shape, 1), 2U * 90 * 128);
  EXPECT_EQ(StoredBytes(kInt8, shape, 128), 128U * 2 * 90 * (64 + 4));
}

TEST(CodecTest, EveryHalfDecodesToItsMeaningAndBack) {
  for (const Codec codec : {kBf16, kFp16}) {
    for (std::uint32_t pattern = 0; pattern < 65536; ++pattern) {
      const auto bits = static_cast<std::uint16_t>(pattern);
      const float expected = Meaning(codec, bits);
      const float number = Number(codec, bits);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(number)) << ToString(codec) << " " << pattern;
        continue;
      }
      ASSERT_EQ(std::bit_cast<std::uint32_t>(number), std::bit_cast<std::uint32_t>(expected))
          << ToString(codec) << " " << pattern;
      if (std::isinf(expected)) continue;
      ASSERT_EQ(Pattern(codec, number), bits) << ToString(codec);
    }
  }
}

TEST(CodecTest, HalvesRoundToTheNearestAndTiesToEven) {
  for (const Codec codec : {kBf16, kFp16}) {
    std::vector<float> numbers = SomeNumbers(codec, 200000);
    // And ties: halfway between neighbours, exact in fp32.
    for (std::uint16_t pattern = 1; pattern < 2000; ++pattern) {
      numbers.push_back((Meaning(codec, pattern) + Meaning(codec, pattern + 1)) / 2);
    }
    for (std::uint16_t pattern = 15000; pattern < 17000; ++pattern) {
      numbers.push_back((Meaning(codec, pattern) + Meaning(codec, pattern + 1)) / 2);
    }
    for (const float number : numbers) {
      const std::uint16_t pattern = Pattern(codec, number);
      ASSERT_EQ((pattern & 0x8000) != 0, std::signbit(number)) << number;
      const double error = std::abs(double{Meaning(codec, pattern)} - number);
      for (const int step : {-1, 1}) {
        const int magnitude = (pattern & 0x7FFF) + step;
        if (magnitude < 0) continue;
        const auto neighbour = static_cast<std::uint16_t>((pattern & 0x8000) | magnitude);
        if (!std::isfinite(Meaning(codec, neighbour))) continue;
        const double other = std::abs(double{Meaning(codec, neighbour)} - number);
        ASSERT_LE(error, other) << ToString(codec) << " " << number;
        ASSERT_FALSE(error == other && (pattern & 1) != 0) << ToString(codec) << " " << number;
      }
    }
  }
}

TEST(CodecTest, HalvesKeepTheirRelativeError) {
  // The last place of a number in [1, 2) is 2^-7 and 2^-10; half of that is the bound. It is met by
  // the ties just above 1, so it cannot be smaller.
  for (const auto& [codec, bound, least] :
       {std::tuple(kBf16, 0x1p-8, 0x1p-126), std::tuple(kFp16, 0x1p-11, 0x1p-14)}) {
    for (const float number : SomeNumbers(codec, 200000)) {
      const double error = std::abs(double{Number(codec, Pattern(codec, number))} - number);
      ASSERT_LE(error, std::max<double>(std::abs(number), least) * bound)
          << ToString(codec) << " " << number;
    }
    const auto tie = static_cast<float>(1 + bound);
    EXPECT_EQ(Number(codec, Pattern(codec, tie)), 1.0F);
  }
}

TEST(CodecTest, Int8ErrsByHalfAStepOfItsScale) {
  std::mt19937 random(3);
  for (const std::uint32_t head_dim : {1U, 2U, 5U, 16U, 64U, 100U}) {
    for (const float magnitude : {1.0F, 1e-3F, 300.0F, 1e30F, 3e38F, 1e-37F, 1e-40F, 1e-44F}) {
      std::uniform_real_distribution<float> uniform(-1, 1);
      std::vector<float> numbers(std::size_t{20} * head_dim);
      for (float& number : numbers) number = uniform(random) * magnitude;
      std::fill_n(numbers.begin(), head_dim, 0.0F);
      const Encoded encoded = EncodeAll(kInt8, numbers, head_dim);
      ASSERT_TRUE(encoded.held);
      const std::vector<float> decoded = DecodeAll(kInt8, encoded, head_dim);
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        const float scale = encoded.scales[i / head_dim];
        // The quotient and the product are rounded too: by 2^-24 of at most 127 steps, each.
        ASSERT_LE(std::abs(double{decoded[i]} - numbers[i]), scale * (0.5 + 254 * 0x1p-24))
            << numbers[i];
      }
      for (std::size_t i = 0; i < head_dim; ++i) EXPECT_EQ(decoded[i], 0);
      // The scale is no larger than it has to be.
      for (std::size_t token = 0; token < encoded.scales.size(); ++token) {
        float largest = 0;
        for (std::size_t i = 0; i < head_dim; ++i) {
          largest = std::max(largest, std::abs(numbers[token * head_dim + i]));
        }
        EXPECT_EQ(encoded.scales[token],
                  std::max(largest / 127, std::numeric_limits<float>::min()));
      }
    }
  }
}

TEST(CodecTest, Int8IsSymmetricAndRoundsTiesToEven) {
  const std::vector<float> numbers = {127, -127, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 126.5F};
  const Encoded encoded = EncodeAll(kInt8, numbers, 8);
  EXPECT_EQ(encoded.scales[0], 1.0F);
  EXPECT_EQ(DecodeAll(kInt8, encoded, 8), (std::vector<float>{127, -127, 0, 2, 2, 0, -2, 126}));
}

TEST(CodecTest, WhatIsNotFiniteOrWouldNotBeIsRefused) {
  const auto held = [](Codec codec, float number) {
    // At any place, vectors and remainders alike.
    int count = 0;
    for (std::size_t at = 0; at < 37; ++at) {
      std::vector<float> numbers(37, 0.25F);
      numbers[at] = number;
      count += EncodeAll(codec, numbers, 37).held ? 1 : 0;
    }
    EXPECT_TRUE(count == 0 || count == 37) << ToString(codec) << " " << number;
    return count > 0;
  };
  for (const Codec codec : kLossy) {
    for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) EXPECT_FALSE(held(codec, bad));
    for (const float good : {0.0F, -0.0F, 65504.0F, -65519.99F}) EXPECT_TRUE(held(codec, good));
  }
  EXPECT_FALSE(held(kFp16, 65520.0F));
  EXPECT_FALSE(held(kFp16, -1e30F));
  EXPECT_TRUE(held(kBf16, 65520.0F));
  EXPECT_FALSE(held(kBf16, std::numeric_limits<float>::max()));
  EXPECT_TRUE(held(kInt8, std::numeric_limits<float>::max()));
}

// Stores, one for each codec.

using StoredCodecTest = CacheTest;

Tokens Range(Token first, Token last) {
  Tokens tokens;
  for (Token token = first; token <= last; ++token) tokens.push_back(token);
  return tokens;
}

TEST_F(StoredCodecTest, EachCodecHasItsOwnFolderAndNoneReadsAnothers) {
  std::set<Digest> keys;
  for (const Codec codec : kCodecs) {
    key_.codec = codec;
    keys.insert(key_.Hash());
    Store store(dir(), key_);
    EXPECT_TRUE(store.List().empty()) << ToString(codec);
    Put(store, Range(1, 10));
    EXPECT_EQ(CacheKey::FromJson(key_.ToJson(), "x").codec, codec);
  }
  EXPECT_EQ(keys.size(), kCodecs.size());
  EXPECT_EQ(ListCacheFolders(dir()).size(), kCodecs.size());
}

TEST_F(StoredCodecTest, EdgeCountsAreRestored) {
  for (const Codec codec : kCodecs) {
    key_.codec = codec;
    for (const Token count : {1, 2, 3, 4, 5, 8, 9}) {  // blocks of 4
      SCOPED_TRACE(std::string(ToString(codec)) + " " + std::to_string(count));
      fs::remove_all(StoreFolder());
      Store store(dir(), key_);
      Put(store, Range(1, count));
      Tokens prompt = Range(1, count);
      prompt.push_back(99);
      const RestoreResult result = RestoreAndCompare(store, PlanFor(store, prompt), prompt);
      EXPECT_EQ(result.tokens, static_cast<std::uint32_t>(count));
      EXPECT_EQ(result.bytes, StoredBytes(codec, key_.shape, result.tokens));
      EXPECT_EQ(ProblemsOf(store), "");
    }
  }
}

TEST_F(StoredCodecTest, ABlockOfAnotherCodecIsNeverRestored) {
  const Tokens prompt = Range(1, 5);
  Buffer buffer(key_.shape, 8);
  buffer.Fill(prompt);
  for (const Codec codec : kCodecs) {
    key_.codec = codec;
    Store store(dir(), key_);
    Put(store, Range(1, 4));
    const Plan plan = PlanFor(store, prompt);
    const fs::path path = FilesIn("blocks").at(0);
    const std::string good = Contents(path);
    for (const Codec other : kCodecs) {
      if (other == codec) continue;
      SCOPED_TRACE(std::string(ToString(codec)) + " reads " + ToString(other));
      // The whole block as the other codec would write it.
      CacheKey other_key = key_;
      other_key.codec = other;
      BlockFormat(other_key).Write(path, Chain(key_.Hash(), Range(1, 4), 4)[0], Range(1, 4),
                                   buffer.view());
      EXPECT_EQ(RestoreAndCompare(store, plan, prompt).corrupt, 1U);
      // The name alone: four letters for four.
      std::string renamed = good;
      renamed.replace(renamed.find(std::string("\"codec\":\"") + ToString(codec)) + 9, 4,
                      ToString(other));
      Overwrite(path, renamed);
      EXPECT_EQ(RestoreAndCompare(store, plan, prompt).corrupt, 1U);
    }
    Overwrite(path, good);
    EXPECT_EQ(RestoreAndCompare(store, plan, prompt).tokens, 4U);
  }
}

TEST_F(StoredCodecTest, WhatACodecCannotHoldIsNotStored) {
  for (const Codec codec : kLossy) {
    for (const bool in_values : {false, true}) {
      for (const float bad : {kNan, kInfinity, 70000.0F}) {
        SCOPED_TRACE(std::string(ToString(codec)) + " " + std::to_string(bad));
        key_.codec = codec;
        fs::remove_all(StoreFolder());
        Store store(dir(), key_);
        const NewEntry entry = EntryOf(Range(1, 6));
        Buffer buffer(key_.shape, 8);
        buffer.Fill(entry.tokens);
        std::memcpy(buffer.At(in_values, 4, 5) + 8, &bad, sizeof bad);  // layer 1, head 1
        const bool refused = codec == kFp16 || !std::isfinite(bad);
        std::string message;
        try {
          store.Put(entry, buffer.view(), 6);
        } catch (const Error& e) {
          EXPECT_EQ(e.kind(), Error::Kind::kInvalidInput);
          message = e.what();
        }
        EXPECT_EQ(message.empty(), !refused) << message;
        if (!refused) continue;
        EXPECT_NE(message.find(std::string(in_values ? "values" : "keys") + " of layer 1, head 1"),
                  std::string::npos)
            << message;
        EXPECT_NE(message.find(ToString(codec)), std::string::npos) << message;
        // The first block could be held; it is gone too.
        EXPECT_TRUE(FilesIn("blocks").empty());
        EXPECT_TRUE(store.List().empty());
      }
    }
  }
  // fp32 holds anything.
  key_.codec = Codec::kFp32;
  Store store(dir(), key_);
  Buffer buffer(key_.shape, 8);
  std::memcpy(buffer.At(false, 0, 0), &kNan, sizeof kNan);
  EXPECT_TRUE(store.Put(EntryOf(Range(1, 6)), buffer.view(), 6).created);
}

}  // namespace
}  // namespace kvr::cache

#include "kvr/cache/chain.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kvr/base/error.h"

namespace kvr::cache {
namespace {

Digest CountingDigest() {
  Digest digest;
  std::iota(digest.begin(), digest.end(), std::uint8_t{0});
  return digest;
}

TEST(ChainTest, HashesAreThoseOfPython) {
  // hashlib.sha256(bytes(range(32)) + struct.pack("<4I", 1, 2, 3, 50256)), and 7 below it
  const Tokens tokens = {1, 2, 3, 50256, 7};
  const auto chain = Chain(CountingDigest(), tokens, 4);
  ASSERT_EQ(chain.size(), 2U);
  EXPECT_EQ(Hex(chain[0].hash), "d202453a65f6b4a00b013ed7fcfcfdabd33510514a0758fd72eaea8ce4e9868f");
  EXPECT_EQ(Hex(chain[1].hash), "24e604c1ddaca5db6cdef946f09db42f8665e942aaa010ec0d119a9b3a8bb34a");
  EXPECT_EQ(chain[0].parent, CountingDigest());
  EXPECT_EQ(chain[1].parent, chain[0].hash);
}

TEST(ChainTest, CutsAtMultiplesOfTheBlockSize) {
  for (std::uint32_t length = 0; length < 14; ++length) {
    const Tokens tokens(length, 5);
    std::uint32_t covered = 0;
    for (const ChainLink& link : Chain(CountingDigest(), tokens, 4)) {
      EXPECT_EQ(link.first, covered);
      EXPECT_EQ(link.first % 4, 0U);
      EXPECT_EQ(link.count, std::min(4U, length - covered));
      covered += link.count;
    }
    EXPECT_EQ(covered, length);
  }
}

TEST(ChainTest, ACommonPrefixSharesItsBlocks) {
  const auto a = Chain(CountingDigest(), Tokens{1, 2, 3, 4, 5, 6, 7, 8}, 4);
  const auto b = Chain(CountingDigest(), Tokens{1, 2, 3, 4, 5, 6, 7, 9}, 4);
  const auto c = Chain(CountingDigest(), Tokens{9, 2, 3, 4, 5, 6, 7, 8}, 4);
  EXPECT_EQ(a[0].hash, b[0].hash);
  EXPECT_NE(a[1].hash, b[1].hash);
  EXPECT_NE(a[1].hash, c[1].hash);  // equal tokens below another parent
}

TEST(ChainTest, NegativeTokensAreRefused) {
  EXPECT_THROW((void)Chain(CountingDigest(), Tokens{1, -1}, 4), Error);
}

}  // namespace
}  // namespace kvr::cache

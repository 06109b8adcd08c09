// SHA-256 (names and fingerprints) and XXH3-128 (payload checksums).
//
// Thread safety: an object belongs to one thread at a time; the functions may be called from any.
// Errors: kResource or std::bad_alloc out of memory, and what DigestFromHex says. Cost: one pass
// over the bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace kvr {

using Digest = std::array<std::uint8_t, 32>;

// Incremental SHA-256 (FIPS 180-4, by OpenSSL's libcrypto). Not thread safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  Sha256& Update(std::span<const std::byte> bytes);
  Sha256& Update(std::string_view bytes);
  // Ends the computation; no further call is allowed.
  [[nodiscard]] Digest Finish();

 private:
  void* context_;  // EVP_MD_CTX
};

[[nodiscard]] Digest Sha256Of(std::string_view bytes);

// Lower-case hexadecimal.
[[nodiscard]] std::string Hex(std::span<const std::uint8_t> bytes);
// The digest that 64 hexadecimal digits stand for. Throws kInvalidInput for anything else.
[[nodiscard]] Digest DigestFromHex(std::string_view hex);

// Incremental XXH3-128, seed 0. Guards against damage, not against an author. Not thread safe.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;

  void Update(std::span<const std::byte> bytes);
  // 32 hexadecimal digits, the canonical (big-endian) form.
  [[nodiscard]] std::string FinishHex() const;

 private:
  void* state_;  // XXH3_state_t
};

}  // namespace kvr

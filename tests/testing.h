// What tests of several layers share.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "kvr/base/error.h"

namespace kvr::testing {

// Of a test's many damages, one in so many is tried: under AddressSanitizer, where each takes many
// times as long, a sample of those that the plain build tries.
#ifdef __SANITIZE_ADDRESS__
inline constexpr int kOneIn = 5;
#else
inline constexpr int kOneIn = 1;
#endif

// A fresh folder, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kvr-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw IoError("cannot create " + pattern, errno);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Threads to compute with: 2, or KVR_TEST_THREADS.
inline int Threads() {
  const char* const given = std::getenv("KVR_TEST_THREADS");
  return given == nullptr ? 2 : std::stoi(given);
}

// A model that tests/make_tiny_models.py made.
inline std::filesystem::path TinyModel(const std::string& name) {
  return std::filesystem::path(KVR_TINY_MODELS) / (name + ".pt");
}

inline bool BitwiseEqual(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Runs `statement`, expects a kvr::Error of `kind`, and leaves its message in the variable.
#define KVR_EXPECT_ERROR(statement, expected_kind, message)                                   \
  do {                                                                                        \
    try {                                                                                     \
      statement;                                                                              \
      ADD_FAILURE() << "no error came";                                                       \
    } catch (const ::kvr::Error& error_found) {                                               \
      EXPECT_EQ(error_found.kind(), ::kvr::Error::Kind::expected_kind) << error_found.what(); \
      (message) = error_found.what();                                                         \
    }                                                                                         \
  } while (false)

}  // namespace kvr::testing

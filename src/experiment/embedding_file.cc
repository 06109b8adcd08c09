#include "embedding_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kvr/base/error.h"

namespace kvr::experiment {
namespace {

bool HasUnitLength(const std::vector<float>& values) {
  const float square = std::inner_product(values.begin(), values.end(), values.begin(), 0.0F);
  return std::abs(square - 1) < 1e-3F;
}

}  // namespace

EmbeddingFile::EmbeddingFile(std::filesystem::path path, std::size_t width, bool keep)
    : path_(std::move(path)),
      file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644)) {
  if (file_.get() < 0) throw IoError("cannot open " + path_.string(), errno);
  const std::size_t bytes = width * sizeof(float);
  const std::string contents = keep ? ReadFile(path_) : std::string();
  for (std::size_t at = 0; at + bytes <= contents.size(); at += bytes) {
    std::vector<float> values(width);
    std::memcpy(values.data(), contents.data() + at, bytes);
    if (!HasUnitLength(values)) break;
    read_.push_back(std::move(values));
  }
  if (::ftruncate(file_.get(), static_cast<off_t>(read_.size() * bytes)) != 0) {
    throw IoError("cannot truncate " + path_.string(), errno);
  }
}

void EmbeddingFile::Append(const std::vector<float>& embedding) {
  const std::size_t bytes = embedding.size() * sizeof(float);
  const auto* const data = reinterpret_cast<const char*>(embedding.data());
  for (std::size_t written = 0; written < bytes;) {
    const ssize_t put = ::write(file_.get(), data + written, bytes - written);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw IoError("cannot write " + path_.string(), errno);
    written += static_cast<std::size_t>(put);
  }
}

}  // namespace kvr::experiment

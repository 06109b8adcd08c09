#include "archive_image.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <span>
#include <vector>

#include "huge_pages.h"
#include "kvr/base/error.h"
#include "kvr/base/hash.h"
#include "kvr/base/interrupt.h"
#include "torch_call.h"

namespace kvr::model {

namespace {

// "kvr-seal-1 <metadata> <tokenizer> <image>", the zip file's comment.
constexpr std::string_view kSealName = "kvr-seal-1";
constexpr std::size_t kDigestChars = 32;
constexpr std::size_t kSealBytes = kSealName.size() + 3 * (1 + kDigestChars);
constexpr std::size_t kPart = std::size_t{4} << 20;      // as scripts/kvr_export/seal.py has it
constexpr std::size_t kCached = std::size_t{256} << 10;  // is hashed while the cache still has it
constexpr std::size_t kLine = 64;                        // libtorch aligns records to it

void Read(const UniqueFd& fd, const std::filesystem::path& path, std::uint64_t at, void* to,
          std::size_t count) {
  iovec part{to, count};
  ReadScattered(fd.get(), at, {&part, 1}, path);
}

// Fills `image` with the file's `size` bytes; returns the digest of all but the last kDigestChars.
std::string ReadAndHash(const UniqueFd& fd, const std::filesystem::path& path, std::byte* image,
                        std::size_t size) {
  const std::size_t hashed = size - kDigestChars;
  std::vector<std::string> digests((hashed + kPart - 1) / kPart);
  std::atomic<std::size_t> next = 0;
  const auto read_parts = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < digests.size();) {
      ThrowIfInterrupted();
      const std::size_t at = i * kPart, count = std::min(kPart, hashed - at);
      Xxh3 digest;
      for (std::size_t end = at + count, from = at; from < end; from += kCached) {
        const std::size_t bytes = std::min(kCached, end - from);
        Read(fd, path, from, image + from, bytes);
        digest.Update({image + from, bytes});
      }
      digests[i] = digest.FinishHex();
    }
  };
  std::vector<std::future<void>> readers;
  for (int i = 1; i < at::get_num_threads(); ++i) {
    readers.push_back(std::async(std::launch::async, read_parts));
  }
  read_parts();
  for (std::future<void>& reader : readers) reader.get();
  Read(fd, path, hashed, image + hashed, kDigestChars);
  std::string all;
  for (const std::string& digest : digests) all += digest;
  return Xxh3Of(all);
}

}  // namespace

std::string Xxh3Of(std::string_view bytes) {
  Xxh3 digest;
  digest.Update(std::as_bytes(std::span(bytes)));
  return digest.FinishHex();
}

std::optional<Seal> ReadSeal(const UniqueFd& fd, const std::filesystem::path& path) {
  const std::uint64_t size = FileSize(fd.get(), path);
  if (size < kSealBytes) return std::nullopt;
  std::string text(kSealBytes, '\0');
  Read(fd, path, size - kSealBytes, text.data(), text.size());
  if (!text.starts_with(kSealName)) return std::nullopt;
  const auto digest = [&](std::size_t i) {
    return text.substr(kSealName.size() + i * (1 + kDigestChars) + 1, kDigestChars);
  };
  return Seal{.metadata = digest(0), .tokenizer = digest(1), .image = digest(2)};
}

ArchiveImage::ArchiveImage(const std::filesystem::path& path)
    : fd_(OpenForRead(path)), size_(FileSize(fd_.get(), path)), image_(HugePages(size_)) {
  const std::optional<Seal> seal = ReadSeal(fd_, path);
  if (!seal) throw Corrupt(path.string() + " does not end in a seal: it is cut off or damaged");
  seal_ = *seal;
  if (ReadAndHash(fd_, path, image_.get(), size_) != seal_.image) {
    throw Corrupt(path.string() +
                  " is damaged: its digest is not the one that it was sealed with; export the "
                  "model again, or copy the archive again from where it is whole");
  }
}

std::size_t ArchiveImage::read(std::uint64_t at, void* to, std::size_t count, const char*) const {
  constexpr std::size_t kLarge = std::size_t{1} << 17;
  if (at >= size_) return 0;
  count = std::min<std::size_t>(count, size_ - at);
  if (count >= kLarge) {
    records_[to] = {at, count};
  } else {
    std::memcpy(to, image_.get() + at, count);
  }
  return count;
}

void ArchiveImage::Attach(const torch::jit::Module& module) {
  std::size_t attached = 0;
  for (const auto& [name, value] : module.named_attributes(/*recurse=*/true)) {
    if (!value.isTensor()) continue;
    at::Tensor tensor = value.toTensor();
    const auto found = records_.find(tensor.storage().mutable_data());
    if (tensor.numel() == 0 || found == records_.end()) continue;
    TORCH_CHECK(tensor.is_contiguous() && tensor.storage_offset() == 0 &&
                    tensor.nbytes() <= found->second.count && found->second.at % kLine == 0,
                name, ": not stored as a whole, from a multiple of ", kLine, " bytes on");
    tensor.set_data(at::from_blob(
        image_.get() + found->second.at, tensor.sizes(), [image = image_](void*) {},
        tensor.options()));
    ++attached;
  }
  TORCH_CHECK(attached >= records_.size(), "the archive has large records that are no weights");
}

torch::jit::Module LoadModule(const ArchiveInfo& info) {
  const std::string path = info.path.string();
  return TorchCall("cannot load " + path, Error::Kind::kCorrupt, [&] {
    const auto image = std::make_shared<ArchiveImage>(path);
    if (image->seal().image != info.image_digest) {
      throw Corrupt(path + " was replaced while it was being loaded; run it again");
    }
    torch::jit::Module module = torch::jit::load(image, at::kCPU);
    image->Attach(module);
    module.eval();
    return module;
  });
}

}  // namespace kvr::model

#include "kvr/cache/block.h"

#include <spdlog/fmt/fmt.h>
#include <sys/uio.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <sstream>
#include <vector>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/cache/safetensors.h"

namespace kvr::cache {

namespace fs = std::filesystem;

namespace {

// Small enough to stay in a second-level cache of 512 kB or more until it is hashed, large enough
// that the system call does not show (measured flat from 128 kB to 512 kB).
constexpr std::uint64_t kBatchBytes = 256 << 10;
// What is hashed and then copied on: so little that the one goes on while the other's stores are
// still on their way (docs/performance.md; flat from 2 to 8 kB).
constexpr std::uint64_t kPieceBytes = 4 << 10;

// Copies past the caches, where the destination lies on whole lines of them: it is not read first,
// and does not push out what is needed next.
void StreamCopy(std::byte* to, const std::byte* from, std::uint64_t bytes) {
#ifdef __SSE2__
  constexpr std::uint64_t kLine = 64, kVector = sizeof(__m128i);
  if (reinterpret_cast<std::uintptr_t>(to) % kLine == 0 && bytes % kLine == 0) {
    for (std::uint64_t at = 0; at < bytes; at += kLine) {
      __m128i line[kLine / kVector];
      for (std::uint64_t i = 0; i < kLine / kVector; ++i) {
        line[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at + i * kVector));
      }
      for (std::uint64_t i = 0; i < kLine / kVector; ++i) {
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + at + i * kVector), line[i]);
      }
    }
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}

// Other threads see streamed bytes in order only behind this.
void EndStream() {
#ifdef __SSE2__
  _mm_sfence();
#endif
}

std::string JoinTokens(std::span<const Token> tokens) {
  std::string text;
  for (const Token token : tokens) {
    if (!text.empty()) text += ' ';
    text += std::to_string(token);
  }
  return text;
}

Tokens SplitTokens(const std::string& text) {
  Tokens tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    Token token = 0;
    const auto [next, error] = std::from_chars(at, end, token);
    if (error != std::errc() || token < 0) throw Corrupt("bad token list");
    tokens.push_back(token);
    at = next == end ? end : next + 1;
  }
  return tokens;
}

// The run-th contiguous piece of the payload, in file order (all keys, then all values), starting
// at position `first` of its run in the buffer.
std::byte* RunAt(const KvShape& shape, const KvBufferView& buffer, std::uint64_t run,
                 std::uint32_t first) {
  std::byte* const tensor = run < shape.Runs() ? buffer.keys : buffer.values;
  return tensor + shape.RunBytes(run % shape.Runs() * buffer.capacity_tokens + first);
}

// What to show of numbers that a codec refuses: NaN if there is one, else the largest magnitude.
std::string LargestNumber(const std::byte* from, std::uint64_t count) {
  float largest = 0;
  for (std::uint64_t i = 0; i < count && !std::isnan(largest); ++i) {
    float number = 0;
    std::memcpy(&number, from + i * sizeof number, sizeof number);
    if (std::isnan(number) || std::abs(number) > std::abs(largest)) largest = number;
  }
  std::ostringstream text;
  text << largest;
  return text.str();
}

}  // namespace

BlockFormat::BlockFormat(const CacheKey& key)
    : shape_(key.shape), block_tokens_(key.block_tokens), codec_(key.codec), key_hash_(key.Hash()) {
  key.Check();
}

std::string BlockFormat::EncodeHeader(const Digest& hash, const Digest& parent,
                                      std::span<const Token> tokens,
                                      const std::string& checksum) const {
  SafetensorsHeader header;
  header.metadata = {{"checksum", checksum},         {"codec", ToString(codec_)},
                     {"format", "kvr-block"},        {"hash", Hex(hash)},
                     {"key", Hex(key_hash_)},        {"parent", Hex(parent)},
                     {"tokens", JoinTokens(tokens)}, {"version", std::to_string(kFormatVersion)}};
  const Tensor tensor = {codec_.element,
                         {shape_.layers, shape_.kv_heads, tokens.size(), shape_.head_dim}};
  header.tensors = {{"keys", tensor}, {"values", tensor}};
  if (codec_.scale_bytes > 0) {
    const Tensor scales = {"F32", {shape_.layers, shape_.kv_heads, tokens.size()}};
    header.tensors["key_scales"] = scales;  // these names come before those of the numbers
    header.tensors["value_scales"] = scales;
  }
  return header.Encode();
}

std::uint64_t BlockFormat::Write(const fs::path& path, const ChainLink& link,
                                 std::span<const Token> tokens, const KvBufferView& source) const {
  // Gathered first, so that the file takes one write: on ext4 and xfs the page cache then holds it
  // in large pieces, and later reads run half as fast again (measured 7.3 against 5.0 GB/s).
  const std::uint64_t run_numbers = std::uint64_t{link.count} * shape_.head_dim;
  const std::uint64_t payload_bytes = StoredBytes(codec_, shape_, link.count);
  const auto payload = std::make_unique_for_overwrite<std::byte[]>(payload_bytes);
  std::byte* at = payload.get();
  for (const bool values : {false, true}) {
    std::byte* scales = at;
    at += shape_.Runs() * link.count * codec_.scale_bytes;
    for (std::uint64_t run = 0; run < shape_.Runs(); ++run) {
      const std::byte* const from =
          RunAt(shape_, source, run + (values ? shape_.Runs() : 0), link.first);
      if (IsExact(codec_)) {
        std::memcpy(at, from, shape_.RunBytes(link.count));
      } else if (!codec_.encode(from, link.count, shape_.head_dim, at, scales)) {
        throw InvalidInput(fmt::format(
            "the {} of layer {}, head {} reach {}, which codec {} cannot hold; store with codec {}",
            values ? "values" : "keys", run / shape_.kv_heads, run % shape_.kv_heads,
            LargestNumber(from, run_numbers), codec_.name, Codec::kFp32.name));
      }
      at += run_numbers * codec_.element_bytes;
      scales += link.count * codec_.scale_bytes;
    }
  }
  const std::span<const std::byte> bytes(payload.get(), payload_bytes);
  Xxh3 checksum;
  checksum.Update(bytes);
  const std::string header = EncodeHeader(link.hash, link.parent, tokens, checksum.FinishHex());
  const std::array parts = {std::as_bytes(std::span(header)), bytes};
  WriteAndRename(path, parts);
  return header.size() + payload_bytes;
}

BlockHeader BlockFormat::ReadHeader(int fd, const fs::path& path, const Digest& hash) const {
  BlockHeader block;
  const SafetensorsHeader header = SafetensorsHeader::Read(fd, path, &block.data_offset);
  try {
    if (const auto version = header.metadata.find("version");
        version != header.metadata.end() && version->second != std::to_string(kFormatVersion)) {
      throw Corrupt(
          fmt::format("format version {} found, expected {}", version->second, kFormatVersion));
    }
    block.parent = DigestFromHex(header.metadata.at("parent"));
    block.tokens = SplitTokens(header.metadata.at("tokens"));
    block.checksum = header.metadata.at("checksum");
    if (block.tokens.empty() || block.tokens.size() > block_tokens_) {
      throw Corrupt(
          fmt::format("{} tokens found, expected 1 to {}", block.tokens.size(), block_tokens_));
    }
    if (ChainHash(block.parent, block.tokens) != hash) {
      throw Corrupt("its name is not the hash of the parent and tokens inside");
    }
  } catch (const Error& e) {
    throw Corrupt(path.string() + ": " + e.what());
  } catch (const std::out_of_range&) {
    throw Corrupt(path.string() + ": not a block: parent, tokens or checksum is absent");
  }
  // Everything else is determined by now: written again, the header must come out the same.
  const std::string expected = EncodeHeader(hash, block.parent, block.tokens, block.checksum);
  if (expected != header.Encode()) {
    throw Corrupt(path.string() + ": the key, codec or shape inside is not this cache's");
  }
  block.payload_bytes = StoredBytes(codec_, shape_, block.tokens.size());
  return block;
}

void BlockFormat::ReadPayload(int fd, const fs::path& path, const BlockHeader& header,
                              const KvBufferView& buffer, std::uint32_t first) const {
  Xxh3 checksum;
  const std::uint64_t tokens = header.tokens.size();
  if (IsExact(codec_)) {
    ReadRaw(fd, path, header.data_offset, tokens, buffer, first, &checksum);
  } else {
    ReadEncoded(fd, path, header.data_offset, tokens, buffer, first, &checksum);
  }
  if (const std::string found = checksum.FinishHex(); found != header.checksum) {
    throw Corrupt(path.string() + ": the payload's checksum is " + found + ", expected " +
                  header.checksum);
  }
}

void BlockFormat::ReadRaw(int fd, const fs::path& path, std::uint64_t offset, std::uint64_t tokens,
                          const KvBufferView& buffer, std::uint32_t first, Xxh3* checksum) const {
  thread_local std::vector<std::byte> scratch(kBatchBytes);
  const std::uint64_t run_bytes = shape_.RunBytes(tokens);
  const std::uint64_t payload_bytes = 2 * shape_.Runs() * run_bytes;
  for (std::uint64_t batch = 0; batch < payload_bytes; batch += kBatchBytes) {
    const std::uint64_t batch_bytes = std::min(kBatchBytes, payload_bytes - batch);
    iovec part{scratch.data(), batch_bytes};
    ReadScattered(fd, offset + batch, {&part, 1}, path);
    for (std::uint64_t at = 0; at < batch_bytes;) {
      const std::uint64_t run = (batch + at) / run_bytes, in_run = (batch + at) % run_bytes;
      const std::uint64_t bytes = std::min({kPieceBytes, batch_bytes - at, run_bytes - in_run});
      checksum->Update({scratch.data() + at, bytes});
      StreamCopy(RunAt(shape_, buffer, run, first) + in_run, scratch.data() + at, bytes);
      at += bytes;
    }
  }
  EndStream();
}

void BlockFormat::ReadEncoded(int fd, const fs::path& path, std::uint64_t offset,
                              std::uint64_t tokens, const KvBufferView& buffer, std::uint32_t first,
                              Xxh3* checksum) const {
  const std::uint64_t scales_bytes = tokens * codec_.scale_bytes;  // of one run
  const std::uint64_t run_bytes = tokens * shape_.head_dim * codec_.element_bytes;
  const std::uint64_t batch_runs =
      std::clamp<std::uint64_t>(kBatchBytes / run_bytes, 1, shape_.Runs());
  const std::uint64_t all_scales_bytes = shape_.Runs() * scales_bytes;
  const auto scratch =
      std::make_unique_for_overwrite<std::byte[]>(all_scales_bytes + batch_runs * run_bytes);
  std::byte* const scales = scratch.get();
  std::byte* const numbers = scales + all_scales_bytes;
  const auto read = [&](std::byte* to, std::uint64_t bytes) {
    iovec part{to, bytes};
    ReadScattered(fd, offset, {&part, 1}, path);
    checksum->Update({to, bytes});
    offset += bytes;
  };
  for (const bool values : {false, true}) {
    if (all_scales_bytes > 0) read(scales, all_scales_bytes);
    for (std::uint64_t batch = 0; batch < shape_.Runs(); batch += batch_runs) {
      const std::uint64_t count = std::min(batch_runs, shape_.Runs() - batch);
      read(numbers, count * run_bytes);
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t run = batch + i;
        codec_.decode(numbers + i * run_bytes, scales + run * scales_bytes, tokens, shape_.head_dim,
                      RunAt(shape_, buffer, run + (values ? shape_.Runs() : 0), first));
      }
    }
  }
}

}  // namespace kvr::cache

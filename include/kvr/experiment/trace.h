// Traces of requests in Mooncake's format: JSONL, one request a line,
//
//   {"timestamp": 0, "input_length": 1300, "output_length": 52, "hash_ids": [46, 47, 2353]}
//
// where each hash id stands for 512 tokens of the prompt, the last for what is left, and equal ids
// mean equal tokens from the prompt's beginning on (Qin et al., "Mooncake", FAST 2025; the traces
// are in github.com/kvcache-ai/Mooncake). So an id has one place: always the same id before it, and
// always as many tokens.
//
// Thread safety: plain values and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvr::experiment {

// Tokens that a hash id of these traces stands for.
inline constexpr int kTraceBlockTokens = 512;

struct TraceBlock {
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  std::uint64_t id = 0;          // the trace's
  std::uint32_t parent = kNone;  // the block before it, by its place in Trace::blocks
  std::uint32_t depth = 0;       // blocks before it
  std::uint32_t tokens = 0;      // fewer than a whole block's only where a prompt ends in it
};

struct TraceRequest {
  std::int64_t timestamp_ms = 0;
  std::int64_t input_tokens = 0, output_tokens = 0;
  std::size_t first = 0;  // of its blocks in Trace::chains
  std::size_t count = 0;
};

struct Trace {
  std::string name;
  int block_tokens = kTraceBlockTokens;
  std::vector<TraceRequest> requests;  // by time
  std::vector<TraceBlock> blocks;      // each once, in order of appearance: after its parent
  std::vector<std::uint32_t> chains;   // the requests' blocks, one request after the other

  [[nodiscard]] std::span<const std::uint32_t> Chain(std::size_t request) const {
    return std::span(chains).subspan(requests[request].first, requests[request].count);
  }
};

// Reads `text`; lines without anything are skipped, unknown fields ignored. `name` stands in
// messages before the line's number. Throws kInvalidInput naming line and field: for one that is
// missing, of the wrong type or negative; for times that fall; for a number of hash ids that
// input_length does not give; for an id that is in a prompt twice, or does not always have the same
// place and length; for a trace without a request. Cost: 10 MB/s, and some 40 bytes an id.
[[nodiscard]] Trace ParseTrace(std::string_view text, const std::string& name);

// The same of a file, whose name without its folder is the trace's. Throws kNotFound; kCorrupt,
// before anything is read, for one of more than 1 GiB.
[[nodiscard]] Trace ReadTrace(const std::filesystem::path& path);

// These requests alone, in their order, with blocks of `block_tokens`: whole ones stay whole, a
// partial one of p tokens has p * block_tokens / 512, rounded to the nearest, and at least 1.
// REQUIRES: `requests` rise.
[[nodiscard]] Trace Scaled(const Trace& trace, std::span<const std::size_t> requests,
                           int block_tokens);

}  // namespace kvr::experiment

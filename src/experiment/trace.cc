#include "kvr/experiment/trace.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <unordered_map>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/json.h"

namespace kvr::experiment {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
// Above it a number is no count or time of anything here (today is 2^41 ms after 1970), and a time
// multiplied by a bin's number stays in 63 bits.
constexpr std::int64_t kMostCount = std::int64_t{1} << 48;

// The line's object, field by field.
class TraceLine {
 public:
  TraceLine(std::string_view text, std::string where)
      : where_(std::move(where)), json_(ParseJson(text, where_)) {
    if (!json_.is_object()) {
      throw InvalidInput(where_ + ": found " + Shown(json_) + ", expected an object");
    }
  }

  [[noreturn]] void Fail(const std::string& what) const {
    throw InvalidInput(where_ + ": " + what);
  }

  [[nodiscard]] std::int64_t Count(const char* key, std::int64_t least) const {
    const Json& value = Field(key);
    const bool whole =
        value.is_number_unsigned() && value.get<std::uint64_t>() <= std::uint64_t{kMostCount};
    if (!whole || value.get<std::int64_t>() < least) {
      Fail(fmt::format("field \"{}\" is {}, expected an integer from {} to 2^48", key, Shown(value),
                       least));
    }
    return value.get<std::int64_t>();
  }

  [[nodiscard]] std::vector<std::uint64_t> Ids(const char* key) const {
    const Json& value = Field(key);
    if (!value.is_array()) {
      Fail(fmt::format("field \"{}\" is {}, expected an array of integers", key, Shown(value)));
    }
    std::vector<std::uint64_t> ids;
    ids.reserve(value.size());
    for (const Json& id : value) {
      if (!id.is_number_unsigned()) {
        Fail(fmt::format("field \"{}\" holds {}, expected integers from 0 to 2^64 - 1", key,
                         Shown(id)));
      }
      ids.push_back(id.get<std::uint64_t>());
    }
    return ids;
  }

 private:
  [[nodiscard]] const Json& Field(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) Fail(std::string("field \"") + key + "\" is missing");
    return *found;
  }
  static std::string Shown(const Json& json) { return Shortened(DumpLine(json), 60); }

  std::string where_;
  Json json_;
};

class Parser {
 public:
  explicit Parser(const std::string& name) : name_(name) { trace_.name = name; }

  void Add(std::string_view text, std::size_t number) {
    const TraceLine line(text, fmt::format("{}:{}", name_, number));
    TraceRequest request{.timestamp_ms = line.Count("timestamp", 0),
                         .input_tokens = line.Count("input_length", 1),
                         .output_tokens = line.Count("output_length", 0),
                         .first = trace_.chains.size()};
    if (!trace_.requests.empty() && request.timestamp_ms < trace_.requests.back().timestamp_ms) {
      line.Fail(fmt::format("field \"timestamp\" is {}, before the {} of line {}; sort the lines",
                            request.timestamp_ms, trace_.requests.back().timestamp_ms,
                            last_number_));
    }
    const std::vector<std::uint64_t> ids = line.Ids("hash_ids");
    const std::int64_t expected = (request.input_tokens - 1) / kTraceBlockTokens + 1;
    if (std::ssize(ids) != expected) {
      line.Fail(fmt::format("field \"hash_ids\" has {} ids, expected {} for input_length {}",
                            ids.size(), expected, request.input_tokens));
    }
    AddBlocks(line, ids, request.input_tokens);
    request.count = ids.size();
    trace_.requests.push_back(request);
    last_number_ = number;
  }

  Trace Finish() {
    if (trace_.requests.empty()) throw InvalidInput(name_ + ": has no request");
    return std::move(trace_);
  }

 private:
  void AddBlocks(const TraceLine& line, const std::vector<std::uint64_t>& ids,
                 std::int64_t tokens) {
    std::uint32_t parent = TraceBlock::kNone;
    for (std::uint32_t depth = 0; depth < ids.size(); ++depth) {
      const TraceBlock block{
          .id = ids[depth],
          .parent = parent,
          .depth = depth,
          .tokens = static_cast<std::uint32_t>(std::min<std::int64_t>(tokens, kTraceBlockTokens))};
      const auto [found, added] =
          place_of_.try_emplace(block.id, static_cast<std::uint32_t>(trace_.blocks.size()));
      if (added) {
        trace_.blocks.push_back(block);
      } else {
        CheckSame(line, ids, trace_.blocks[found->second], block);
      }
      parent = found->second;
      trace_.chains.push_back(parent);
      tokens -= block.tokens;
    }
  }

  void CheckSame(const TraceLine& line, const std::vector<std::uint64_t>& ids,
                 const TraceBlock& before, const TraceBlock& block) const {
    const auto begin = ids.begin();
    if (std::find(begin, begin + block.depth, block.id) != begin + block.depth) {
      line.Fail(fmt::format("field \"hash_ids\" has {} twice", block.id));
    }
    if (before.parent != block.parent || before.depth != block.depth) {
      const auto after = [&](std::uint32_t parent) {
        return parent == TraceBlock::kNone ? std::string("at the beginning")
                                           : fmt::format("after {}", trace_.blocks[parent].id);
      };
      line.Fail(fmt::format(
          "field \"hash_ids\" has {} {}, but an earlier line has it {}; an id stands for its "
          "prompt from the beginning on",
          block.id, after(block.parent), after(before.parent)));
    }
    if (before.tokens != block.tokens) {
      line.Fail(
          fmt::format("field \"hash_ids\" has {} for {} tokens, but an earlier line has it for {}",
                      block.id, block.tokens, before.tokens));
    }
  }

  const std::string name_;
  Trace trace_;
  std::unordered_map<std::uint64_t, std::uint32_t> place_of_;
  std::size_t last_number_ = 0;
};

}  // namespace

Trace ParseTrace(std::string_view text, const std::string& name) {
  Parser parser(name);
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t newline = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, newline);
    text.remove_prefix(std::min(newline + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) parser.Add(line, number);
  }
  return parser.Finish();
}

Trace ReadTrace(const std::filesystem::path& path) {
  Trace trace = ParseTrace(ReadFile(path, kMostBytes), path.string());
  trace.name = path.filename().string();
  return trace;
}

Trace Scaled(const Trace& trace, std::span<const std::size_t> requests, int block_tokens) {
  const auto scaled_tokens = [&](std::uint32_t tokens) {
    const auto whole = static_cast<std::uint32_t>(trace.block_tokens);
    const auto scaled = static_cast<std::uint64_t>(block_tokens);
    return static_cast<std::uint32_t>(
        std::max<std::uint64_t>(1, (tokens * scaled + whole / 2) / whole));
  };
  Trace sample{.name = trace.name, .block_tokens = block_tokens};
  std::unordered_map<std::uint32_t, std::uint32_t> place_of;
  for (const std::size_t i : requests) {
    TraceRequest request = trace.requests[i];
    request.first = sample.chains.size();
    request.input_tokens = 0;
    for (const std::uint32_t whole : trace.Chain(i)) {
      TraceBlock block = trace.blocks[whole];
      const auto [found, added] =
          place_of.try_emplace(whole, static_cast<std::uint32_t>(sample.blocks.size()));
      if (added) {
        if (block.parent != TraceBlock::kNone) block.parent = place_of.at(block.parent);
        block.tokens = scaled_tokens(block.tokens);
        sample.blocks.push_back(block);
      }
      sample.chains.push_back(found->second);
      request.input_tokens += sample.blocks[found->second].tokens;
    }
    sample.requests.push_back(request);
  }
  return sample;
}

}  // namespace kvr::experiment

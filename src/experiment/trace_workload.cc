#include "kvr/experiment/trace_workload.h"

#include "kvr/base/error.h"

namespace kvr::experiment {

std::uint64_t StoredBytesPerToken(const model::ArchiveInfo& info, const cache::Codec& codec) {
  if (info.kind == "encoder") {
    throw InvalidInput(info.name + " is a sentence encoder, which has no keys and values to cache");
  }
  const cache::KvShape shape = {.layers = static_cast<std::uint32_t>(info.layers),
                                .kv_heads = static_cast<std::uint32_t>(info.kv_heads),
                                .head_dim = static_cast<std::uint32_t>(info.head_dim)};
  return cache::StoredBytes(codec, shape, 1);
}

std::vector<record::TraceRow> TraceRowsOf(const TraceWorkload& workload,
                                          const record::ModelInfo& model) {
  std::vector<record::TraceRow> all;
  for (const auto& [codec, bytes] : model.stored_bytes_per_token) {
    TraceArithmetic arithmetic = workload.arithmetic;
    arithmetic.bytes_per_token = static_cast<std::uint64_t>(bytes);
    for (record::TraceRow& row : CountTrace(workload.trace, arithmetic)) {
      row.model = model.name;
      row.precision = model.precision;
      row.codec = codec;
      all.push_back(std::move(row));
    }
  }
  return all;
}

std::optional<std::int64_t> ExpectedDepth(std::int64_t depth, const engine::Reuse& reuse,
                                          int block_tokens) {
  if (!(reuse.policy == engine::Policy::kPrefix) || reuse.match.entire_entry) return std::nullopt;
  const std::uint32_t kept =
      reuse.match.keep(static_cast<std::uint32_t>(depth), static_cast<std::uint32_t>(block_tokens));
  return kept < reuse.min_depth ? 0 : std::int64_t{kept};
}

Json DescribeSample(const ScaledSample& sample) {
  Json requests = Json::array();
  for (std::size_t i = 0; i < sample.trace.requests.size(); ++i) {
    Json ids = Json::array();
    for (const std::uint32_t block : sample.trace.Chain(i)) {
      ids.push_back(sample.trace.blocks[block].id);
    }
    requests.push_back({sample.requests[i].tokens, std::move(ids)});
  }
  return {sample.trace.block_tokens, std::move(requests)};
}

}  // namespace kvr::experiment

#include "kvr/record/trace.h"

#include <spdlog/fmt/fmt.h>

#include "fields.h"
#include "kvr/record/cell.h"

namespace kvr::record {

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, TraceRow>
void List(const Fields& field, T& row) {
  field("trace", row.trace, "the trace's file, without its folder");
  field("model", row.model, "as in `models`; null where the arithmetic was for no model");
  field("precision", row.precision, "likewise");
  field("codec", row.codec, "likewise, of the cache");
  field("rule", row.rule,
        "what is dropped when the budget is full: `lru`, `belady`; `infinite`: nothing, ever");
  field("budget_blocks", row.budget_blocks, "blocks that may be held; null: any number");
  field("budget_bytes", row.budget_bytes,
        "what so many blocks take; null where there is no budget or `bytes_per_token` is null");
  field("bytes_per_token", row.bytes_per_token,
        "`stored_bytes_per_token` of model and codec; null when not known");
  field("block_tokens", row.block_tokens, "tokens that a hash id of the trace stands for");
  field("bin", row.bin, "number of the bin of trace time, from 0");
  field("start_s", row.start_s, "its beginning, since the first request", NotNegative{});
  field("end_s", row.end_s, "its end, which is the next one's beginning", NotNegative{});
  field("requests", row.requests, "that arrived in it");
  field("hit_requests", row.hit_requests, "of these, which restored a token or more");
  field("input_tokens", row.input_tokens, "of these requests' prompts");
  field("hit_tokens", row.hit_tokens,
        "of these, restored: the prefill that was saved. At most a prompt's tokens less one");
  field("input_blocks", row.input_blocks, "of these prompts; a partial one counts as one");
  field("hit_blocks", row.hit_blocks, "of these, restored");
  field("evicted_blocks", row.evicted_blocks,
        "dropped after these requests to keep the budget, blocks of the requests themselves among "
        "them");
  field("held_blocks", row.held_blocks, "after the last request of this bin or an earlier one");
}

Json ToJson(const TraceRow& row) {
  Json json = {{"schema", kResultsSchema}};
  List(Writer(json), row);
  return json;
}

TraceRow TraceRowFromJson(const Json& json, const std::string& where) {
  const Reader field(json, where);
  field.Schema();
  TraceRow row;
  List(field, row);
  const auto part = [&](const char* key, std::int64_t count, const char* whole, std::int64_t of) {
    if (count > of) field.Fail(fmt::format("{} {} of {} {}", key, count, whole, of));
  };
  part("hit_requests", row.hit_requests, "requests", row.requests);
  part("hit_tokens", row.hit_tokens, "input_tokens", row.input_tokens);
  part("hit_blocks", row.hit_blocks, "input_blocks", row.input_blocks);
  if (row.end_s < row.start_s) {
    field.Fail(fmt::format("end_s {} before start_s {}", row.end_s, row.start_s));
  }
  return row;
}

std::string DocumentTrace() { return DocumentOf<TraceRow>("| `schema` | integer | 2 |\n"); }

}  // namespace kvr::record

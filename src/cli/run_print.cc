#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <iostream>

#include "run.h"

namespace kvr::cli {

namespace {

// Where a phase did not run, 0 stands for the cell's null.
Json ArmJson(const RunResult::Arm& arm) {
  const Json cell = record::ToJson(arm.cell);
  const Json zeros = {
      {"restored_bytes", 0}, {"embed_ms", 0.0}, {"lookup_ms", 0.0}, {"restore_ms", 0.0}};
  Json json = {{"ended", arm.ended}};
  for (const char* key :
       {"arm", "outcome", "limited_by", "exact_claimed", "reuse_depth", "similarity", "entry",
        "restored_bytes", "embed_ms", "lookup_ms", "restore_ms", "prefill_ms", "ttft_ms",
        "decode_ms", "total_ms", "new_tokens", "tokens", "text"}) {
    json[key] = cell[key].is_null() ? zeros.value(key, Json()) : cell[key];
  }
  return json;
}

Json SavedJson(const engine::SaveResult& saved) {
  return {{"entry", Hex(saved.put.entry)},
          {"tokens", saved.tokens},
          {"prefilled", saved.prefilled},
          {"prefill_ms", saved.prefill_ms},
          {"save_ms", saved.save_ms},
          {"blocks_written", saved.put.blocks_written},
          {"blocks_shared", saved.put.blocks_shared},
          {"bytes", saved.put.bytes_written}};
}

void PrintTable(const RunResult& result) {
  std::vector<std::vector<std::string>> rows = {{"", "tokens", "depth", "embed", "lookup",
                                                 "restore", "prefill", "TTFT", "decode", "total",
                                                 "new", "found"}};
  const auto ms = [](std::optional<double> time) { return Fixed(time.value_or(0), 1); };
  for (const auto& [cell, ended] : result.arms) {
    rows.push_back({cell.arm, std::to_string(result.prompt.tokens.size()),
                    std::to_string(cell.reuse_depth), ms(cell.embed_ms), ms(cell.lookup_ms),
                    ms(cell.restore_ms), ms(cell.prefill_ms), ms(cell.ttft_ms), ms(cell.decode_ms),
                    ms(cell.total_ms), std::to_string(cell.new_tokens),
                    cell.limited_by ? cell.outcome + ", " + *cell.limited_by : cell.outcome});
  }
  std::cout << AlignColumns(rows) << "(times in ms)\n";
}

// What recycling gained, as a sentence. REQUIRES: two arms.
void PrintGain(const RunResult& result, bool saves) {
  const record::Cell &baseline = result.arms[0].cell, &recycled = result.arms[1].cell;
  const double before = baseline.ttft_ms, after = recycled.ttft_ms;
  const double looking = recycled.embed_ms.value_or(0) + recycled.lookup_ms.value_or(0);
  if (recycled.outcome == "hit") {
    std::cout << fmt::format(
        "recycled {} of {} prompt tokens: first token after {:.1f} ms instead of {:.1f}, {:.2f} "
        "times as fast; the whole reply {:.2f} times\n",
        recycled.reuse_depth, result.prompt.tokens.size(), after, before, before / after,
        baseline.total_ms.value_or(0) / recycled.total_ms.value_or(0));
  } else if (recycled.outcome == "miss") {
    const std::string limit = recycled.limited_by.value_or("");
    std::cout << fmt::format(
        "nothing recycled: {}; looking took {:.1f} ms ({:.1f} % of the first token's){}\n",
        limit == "no_candidate" ? "no cached prompt begins like this one" : limit, looking,
        100 * looking / before,
        saves ? "" : ". --save caches this prompt for the next that begins like it");
  }
}

void PrintFidelity(const record::Fidelity& fidelity) {
  if (fidelity.exact) {
    std::cout << "output equal to the baseline's bit for bit\n";
    return;
  }
  std::cout << fmt::format("output differs: max |logit difference| {:.6f}, mean KL {:.6f}",
                           fidelity.max_abs_logit_diff.value(), fidelity.kl_mean.value());
  if (fidelity.first_divergence) {
    std::cout << ", first different token " << *fidelity.first_divergence;
  }
  std::cout << "\n";
}

}  // namespace

Json ToJson(const RunResult& result) {
  Json json = {{"id", result.id},
               {"codec", cache::ToString(result.codec)},
               {"prompt_tokens", result.prompt.tokens.size()},
               {"truncated_tokens", result.prompt.truncated_tokens},
               {"arms", Json::array()}};
  for (const RunResult::Arm& arm : result.arms) json["arms"].push_back(ArmJson(arm));
  if (result.fidelity) json["fidelity"] = record::ToJson(*result.fidelity);
  if (result.save_asked) json["save"] = result.saved ? SavedJson(*result.saved) : Json(nullptr);
  return json;
}

engine::Generation ReplyPrinter::Generate(const engine::Request& request) {
  if (!first_) {
    engine::Generation generation = Stream(request);
    first_ = generation.tokens;
    return generation;
  }
  engine::Generation generation = generator_.Generate(request);
  const std::size_t count = generation.tokens.size();
  std::cout << "--- " << engine::ToString(request.arm) << " ---\n";
  if (generation.tokens == *first_) {
    std::cout << "(the same " << count << (count == 1 ? " token)\n" : " tokens)\n");
  } else {
    std::cout << generator_.Text(generation.tokens) << Ending(generation) << "\n";
  }
  return generation;
}

// The text as it comes, on a terminal; whole, elsewhere.
engine::Generation ReplyPrinter::Stream(engine::Request request) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  text::StreamDecoder decoder(generator_.tokenizer());
  std::cout << "--- " << engine::ToString(request.arm) << " ---\n";
  request.on_token = [&](Token token) {
    std::cout << decoder.Push(token);
    if (terminal) std::cout.flush();
  };
  engine::Generation generation = generator_.Generate(request);
  std::cout << decoder.Flush() << Ending(generation) << "\n";
  return generation;
}

// What follows a reply's text: its end, where the model ended it, and that there was none.
std::string ReplyPrinter::Ending(const engine::Generation& generation) const {
  if (!generation.ended) return "";
  const bool empty = generator_.Text(generation.tokens).empty();
  if (!empty) return "\n[end of text]";
  std::string advice = "--ignore-eos goes on";
  if (options_.chat_template == "raw" && generator_.chat_template()) {
    advice += ", --template chat asks for a reply";
  }
  return fmt::format("(an empty reply: the model ended its text at once; {})\n[end of text]",
                     advice);
}

void PrintRun(const RunResult& result, const RunOptions& options) {
  if (options.batch.empty()) {
    std::cout << "\n";
  } else {
    std::cout << "prompt " << result.id << "\n";
    for (const auto& [cell, ended] : result.arms) {
      std::cout << "--- " << cell.arm << " ---\n" << cell.text << "\n";
    }
  }
  PrintTable(result);
  if (result.fidelity) {
    PrintGain(result, options.save);
    PrintFidelity(*result.fidelity);
  }
}

void PrintSaved(const engine::SaveResult& saved) {
  std::cout << fmt::format(
      "saved as {}: {} tokens, {} prefilled again, {} blocks written, {} shared, {:.1f} ms\n",
      Hex(saved.put.entry).substr(0, 12), saved.tokens, saved.prefilled, saved.put.blocks_written,
      saved.put.blocks_shared, saved.save_ms);
}

}  // namespace kvr::cli

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cassert>

#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/engine/generator.h"

namespace kvr::engine {

SaveResult Generator::Save(const std::string& text, cache::Codec codec) {
  return SaveEntry({.text = text, .tokens = tokenizer_.Encode(text)}, codec);
}

SaveResult Generator::Save(Tokens tokens, cache::Codec codec, std::string text) {
  return SaveEntry({.text = std::move(text), .tokens = std::move(tokens)}, codec);
}

SaveResult Generator::SaveEntry(cache::NewEntry entry, cache::Codec codec) {
  assert(store(codec) != nullptr);
  SaveResult result;
  if (entry.tokens.empty()) throw InvalidInput("an empty prompt can't be cached");
  if (static_cast<int>(entry.tokens.size()) > info().context_tokens) {
    throw InvalidInput(
        fmt::format("the text has {} tokens, more than the context of {} tokens of {}",
                    entry.tokens.size(), info().context_tokens, info().name));
  }
  if (static_cast<std::size_t>(buffer_.capacity_tokens()) < entry.tokens.size()) {
    // Growing would lose what is resident; carry it over.
    model::KvBuffer larger = model_.NewBuffer(static_cast<int>(entry.tokens.size()));
    larger.CopyFrom(buffer_, static_cast<int>(resident_.size()));
    buffer_ = std::move(larger);
  }
  const auto differ =
      std::mismatch(resident_.begin(), resident_.end(), entry.tokens.begin(), entry.tokens.end());
  auto start = static_cast<std::size_t>(differ.first - resident_.begin());
  // Inside a block a restart is exact only where the probe says so.
  const auto block = static_cast<std::size_t>(model_.block_tokens());
  if (start % block != 0 && start < entry.tokens.size() && !probe().exact) {
    start = start / block * block;
  }
  resident_.resize(start);  // what follows is about to be overwritten
  (void)ChunkTokens();      // may probe, which belongs on no clock
  Stopwatch watch;
  Prefill(entry.tokens, start, 0);
  result.prefill_ms = watch.LapMs();
  result.prefilled = static_cast<int>(entry.tokens.size() - start);
  resident_ = entry.tokens;
  if (encoder_ != nullptr && !entry.text.empty()) {
    const Embedding embedding = Embed(entry.text);
    entry.embedding = embedding.values;
    entry.encoder = encoder_->info().fingerprint;
    entry.pieces_embedded = static_cast<std::uint32_t>(embedding.pieces_embedded);
    entry.pieces_total = static_cast<std::uint32_t>(embedding.pieces_total);
  }
  result.tokens = static_cast<int>(entry.tokens.size());
  buffer_.Download(0, result.tokens);
  result.put = store(codec)->Put(entry, BufferView(), static_cast<std::uint32_t>(result.tokens));
  result.save_ms = watch.LapMs();
  return result;
}

}  // namespace kvr::engine

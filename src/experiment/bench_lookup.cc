// The phases of kvr bench that look for one entry among a thousand: look-up, and what a recycled
// generation takes beside arithmetic and restore.
#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <numeric>
#include <random>

#include "bench_meter.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"

namespace kvr::experiment {

namespace {

constexpr int kEntries = 1000;
constexpr int kEntryTokens = 900;

// Adds an entry, as the index has it, with its blocks.
void AddEntry(const engine::Generator& generator, Tokens tokens, std::vector<float> embedding,
              cache::IndexPicture* picture) {
  const cache::CacheKey& key = generator.cache_key();
  cache::EntryRow row;
  row.tokens = std::move(tokens);
  row.id = cache::ChainHash(key.Hash(), row.tokens);
  row.embedding = std::move(embedding);
  row.encoder = generator.encoder()->info().fingerprint;
  row.created_us = static_cast<std::int64_t>(picture->entries.size()) + 1;
  for (const cache::ChainLink& link : cache::Chain(key.Hash(), row.tokens, key.block_tokens)) {
    row.chain.push_back(link.hash);
    picture->blocks[link.hash] = {link.hash, link.parent, link.count, 1};
  }
  picture->entries.push_back(std::move(row));
}

// `count` entries, as near to each other as chance has it.
cache::IndexPicture Crowd(const engine::Generator& generator, int count) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  cache::IndexPicture picture;
  for (int i = 0; i < count; ++i) {
    std::vector<float> values(static_cast<std::size_t>(generator.encoder()->info().width));
    for (float& value : values) value = normal(random);
    const float norm =
        std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0F));
    for (float& value : values) value /= norm;
    AddEntry(generator, RandomTokens(generator, kEntryTokens, 1000 + static_cast<unsigned>(i)),
             std::move(values), &picture);
  }
  return picture;
}

cache::View MakeView(const engine::Generator& generator, cache::IndexPicture picture) {
  const cache::CacheKey& key = generator.cache_key();
  return {std::move(picture), key.Hash(), key.block_tokens};
}

// What both phases are held against.
std::optional<double> HundredthOfTtft(const BenchMeter& meter) {
  if (meter.deepest_ttft_ms == 0) return std::nullopt;
  return meter.deepest_ttft_ms / 100;
}

}  // namespace

std::vector<BenchRow> BenchOverhead(BenchMeter& meter) {
  engine::Generator& generator = meter.generator;
  if (generator.encoder() == nullptr || meter.deepest_ttft_ms == 0) return {};
  meter.Say("overhead");
  cache::IndexPicture picture = Crowd(generator, kEntries - 1);
  AddEntry(generator, meter.cached, generator.Embed(kSentence).values, &picture);
  const cache::View view = MakeView(generator, std::move(picture));
  engine::Request request;
  request.tokens = meter.cached;
  const Tokens added = RandomTokens(generator, 32, 4);
  request.tokens.insert(request.tokens.end(), added.begin(), added.end());
  request.text = kSentence;
  request.max_new_tokens = 1;
  request.arm = engine::Arm::kRecycled;
  request.view = &view;
  request.reuse = {.policy = engine::Policy::kEmbedding, .match = cache::Match::kWhole};
  const double ms = meter.Median([&] {
    const Stopwatch watch;
    const engine::Generation generation = generator.Generate(request);
    const double all_ms = watch.ElapsedMs();
    if (generation.reuse_depth != static_cast<int>(meter.cached.size())) {
      throw Error(Error::Kind::kCheckFailed, "the entry among 1,000 was not found");
    }
    const engine::Timings& timings = generation.timings;
    return all_ms - timings.embed_ms - timings.restore_ms - timings.prefill_ms;
  });
  return {{.what = fmt::format("beside arithmetic and restore, {} entries", kEntries),
           .measured = ms,
           .bound = HundredthOfTtft(meter),
           .unit = "ms"}};
}

std::vector<BenchRow> BenchLookup(BenchMeter& meter) {
  const engine::Generator& generator = meter.generator;
  if (generator.encoder() == nullptr) return {};
  meter.Say("lookup");
  cache::IndexPicture picture = Crowd(generator, kEntries);
  // The entry in the middle begins the prompt.
  const std::vector<float> wanted = picture.entries[kEntries / 2].embedding;
  Tokens prompt = picture.entries[kEntries / 2].tokens;
  prompt.push_back(1);
  const cache::View view = MakeView(generator, std::move(picture));
  const cache::Query query{.tokens = prompt};
  const std::string& encoder = generator.encoder()->info().fingerprint;
  std::vector<BenchRow> rows;
  for (const bool embedding : {true, false}) {
    std::uint32_t depth = 0;
    const double ms = meter.Median([&] {
      const Stopwatch watch;
      depth = embedding ? view.LongestVerified(view.Nearest(wanted, encoder, 5, 0), query).depth
                        : view.WalkPrefix(query).depth;
      return watch.ElapsedMs();
    });
    if (depth != kEntryTokens) {
      throw Error(Error::Kind::kCheckFailed,
                  fmt::format("lookup found {} tokens, expected {}", depth, kEntryTokens));
    }
    rows.push_back(
        {.what = fmt::format("{}, {} entries", embedding ? "embedding" : "prefix", kEntries),
         .measured = ms,
         .bound = HundredthOfTtft(meter),
         .unit = "ms"});
  }
  return rows;
}

}  // namespace kvr::experiment

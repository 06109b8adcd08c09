// The laws on tiny models: recycled equals baseline, bit for bit, wherever that is claimed.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "engine/fixture.h"
#include "kvr/engine/generator.h"

namespace kvr::engine {
namespace {

// Not the longest candidate's, and not that of the one with most tokens in common.
TEST_P(GeneratorTest, OnAMissTheSimilarityIsTheNearestCandidates) {
  const std::string near = "Ships are written into the book by the harbour master.";
  const std::string far = "The harbour " + RandomText(60, 5);
  const std::string prompt = "The harbour master writes ships into the book.";
  generator_->Save(near);
  generator_->Save(far);
  const auto embedding = generator_->Embed(prompt).values;
  const auto cosine = [&](const std::string& text) {
    const auto other = generator_->Embed(text).values;
    return std::inner_product(embedding.begin(), embedding.end(), other.begin(), 0.0F);
  };
  ASSERT_GT(cosine(near), cosine(far));
  const Generation miss = Recycled(prompt, Policy::kEmbedding, cache::Match::kWhole);
  ASSERT_EQ(miss.outcome, Outcome::kMiss);
  ASSERT_TRUE(miss.similarity.has_value());
  EXPECT_NEAR(*miss.similarity, cosine(near), 1e-5);
  // On a hit it is the used entry's, whoever is nearer.
  const std::string used = TextOf(generator_->tokenizer().Encode(prompt), 6);
  generator_->Save(used);
  const Generation hit = Recycled(prompt, Policy::kEmbedding, cache::Match::kWhole);
  ASSERT_EQ(hit.outcome, Outcome::kHit);
  EXPECT_NEAR(*hit.similarity, cosine(used), 1e-5);
}

TEST_P(GeneratorTest, RecycledEqualsBaselineAtEveryDepthWhereTheProbeHolds) {
  const std::string text = RandomText(75, 1);
  const Tokens tokens = generator_->tokenizer().Encode(text);
  ASSERT_GT(tokens.size(), 3u * kBlock);
  const Generation baseline = Baseline(text);
  // The program's own kernels leave it no choice.
  ASSERT_TRUE(generator_->probe().exact || generator_->language_model().kernel_path() == "torch");
  if (!generator_->probe().exact) GTEST_SKIP() << "the probe does not hold on this machine";
  for (std::size_t depth = 1; depth < tokens.size(); ++depth) {
    SCOPED_TRACE(depth);
    TempFolder folder;
    generator_->OpenStore(folder.path(), {});
    generator_->ForgetBuffer();
    generator_->Save(Tokens(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(depth)));
    const Generation recycled = Recycled(text);
    EXPECT_EQ(recycled.reuse_depth, static_cast<int>(depth));
    EXPECT_EQ(recycled.outcome, Outcome::kHit);
    EXPECT_TRUE(recycled.exact_claimed);
    ExpectEqual(recycled, baseline);
  }
}

TEST_P(GeneratorTest, RecycledEqualsBaselineAtEveryBlockDepthAlways) {
  const std::string text = RandomText(75, 2);
  generator_->Save(text);
  const Tokens tokens = generator_->tokenizer().Encode(text);
  int hits = 0;
  for (std::size_t end = kBlock + 1; end <= tokens.size(); ++end) {
    const std::string prompt = TextOf(tokens, end);
    SCOPED_TRACE(end);
    const Generation recycled = Recycled(prompt, Policy::kPrefix, cache::Match::kBlock);
    EXPECT_EQ(recycled.reuse_depth % kBlock, 0);
    EXPECT_TRUE(recycled.exact_claimed);
    hits += recycled.reuse_depth > 0 ? 1 : 0;
    ExpectEqual(recycled, Baseline(prompt));
  }
  EXPECT_GT(hits, kBlock);
}

TEST_P(GeneratorTest, ALossyHitClaimsNothingAndDriftsALittle) {
  const std::string text = RandomText(60, 8), prompt = text + " and so on";
  const Generation baseline = Baseline(prompt);
  const auto [low, high] =
      std::minmax_element(baseline.logits[0].begin(), baseline.logits[0].end());
  for (const cache::Codec codec : {cache::CodecFromString("bf16"), cache::CodecFromString("fp16"),
                                   cache::CodecFromString("int8")}) {
    SCOPED_TRACE(cache::ToString(codec));
    generator_->OpenStore(folder_.path(), {}, codec);
    generator_->ForgetBuffer();
    generator_->Save(text, codec);
    for (const cache::Match match : {cache::Match::kToken, cache::Match::kBlock}) {
      Request request = MakeRequest(prompt, Arm::kRecycled, Policy::kPrefix, match, codec);
      const cache::View view = generator_->store(codec)->MakeView();
      request.view = &view;
      request.forced = baseline.tokens;
      const Generation recycled = generator_->Generate(request);
      EXPECT_EQ(recycled.outcome, Outcome::kHit);
      EXPECT_GE(recycled.reuse_depth, 2 * kBlock);
      EXPECT_FALSE(recycled.exact_claimed);
      EXPECT_EQ(
          recycled.restored_bytes % cache::StoredBytes(codec, generator_->cache_key().shape, 1),
          0u);
      // Were the logits equal, it would not have been the codec's numbers that were restored.
      double largest = 0;
      for (std::size_t step = 0; step < baseline.logits.size(); ++step) {
        for (std::size_t i = 0; i < baseline.logits[step].size(); ++i) {
          largest = std::max(largest,
                             std::abs(double{recycled.logits[step][i]} - baseline.logits[step][i]));
        }
      }
      EXPECT_GT(largest, 0);
      // With int8 weights the activations are rounded too, which a small change can tip over.
      const bool fine =
          codec == cache::CodecFromString("fp16") && generator_->info().precision != "int8";
      EXPECT_LT(largest, (*high - *low) * (fine ? 0.01 : 0.1));
    }
    // A miss computes everything, whatever the store: the claim stands.
    const Generation miss = Recycled("Quotes", Policy::kPrefix, cache::Match::kToken, codec);
    EXPECT_EQ(miss.outcome, Outcome::kMiss);
    EXPECT_TRUE(miss.exact_claimed);
    ExpectEqual(miss, Baseline("Quotes"));
  }
}

// What either arm did, by arithmetic from the prompt and the depth alone.
TEST_P(GeneratorTest, WorkIsCountedAndAddsUp) {
  const std::string text = RandomText(60, 9), prompt = text + " and so on";
  generator_->Save(text);
  const auto tokens = static_cast<std::int64_t>(generator_->tokenizer().Encode(prompt).size());
  const Generation baseline = Baseline(prompt);
  const auto decoded = static_cast<std::int64_t>(baseline.tokens.size()) - 1;
  EXPECT_EQ(baseline.work.prefilled_tokens, tokens);
  EXPECT_GE(baseline.work.forward_passes, 1 + decoded);
  EXPECT_EQ(baseline.work.restored_blocks + baseline.work.opened_files, 0);
  for (const Policy& policy : {Policy::kPrefix, Policy::kEmbedding}) {
    const Generation recycled = Recycled(prompt, policy, cache::Match::kToken);
    const Work& work = recycled.work;
    EXPECT_EQ(work.prefilled_tokens, tokens - recycled.reuse_depth);
    EXPECT_LE(work.forward_passes, baseline.work.forward_passes);
    EXPECT_EQ(work.restored_blocks, (recycled.reuse_depth + kBlock - 1) / kBlock);
    EXPECT_EQ(work.opened_files, work.restored_blocks);
    EXPECT_EQ(work.compared_entries, policy.by_similarity ? 1 : 0);
  }
}

TEST_P(GeneratorTest, WholeRefusesWhatTokenReuses) {
  generator_->Save("The harbour master writes every ship into a book.");
  const std::string other = "The harbour master writes poems";
  EXPECT_EQ(Recycled(other, Policy::kEmbedding, cache::Match::kWhole).outcome, Outcome::kMiss);
  const Generation token = Recycled(other, Policy::kEmbedding, cache::Match::kToken);
  EXPECT_EQ(token.outcome, Outcome::kHit);
  EXPECT_EQ(token.limited_by, cache::LimitedBy::kDiverged);
  EXPECT_TRUE(token.similarity.has_value());
}

TEST_P(GeneratorTest, OneTokenAlwaysRuns) {
  const std::string text = "Numbers such as 1, 22 and 4096";
  generator_->Save(text);
  const Generation recycled = Recycled(text);
  EXPECT_EQ(recycled.reuse_depth,
            static_cast<int>(generator_->tokenizer().Encode(text).size()) - 1);
  EXPECT_EQ(recycled.limited_by, cache::LimitedBy::kLastToken);
  if (recycled.exact_claimed) ExpectEqual(recycled, Baseline(text));
}

TEST_P(GeneratorTest, ADamagedBlockShortensTheHitAndChangesNothingElse) {
  const std::string text = RandomText(60, 4);
  generator_->Save(text);
  // Damage one block's payload: the biggest hash, whichever block that is.
  std::filesystem::path victim;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(generator_->store()->folder() / "blocks")) {
    if (file.is_regular_file()) victim = std::max(victim, file.path());
  }
  std::fstream file(victim, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x7f');
  file.close();
  const std::string prompt = text + "Q";
  const cache::View view = generator_->store()->MakeView();
  const Generation recycled = Recycled(prompt, view);
  EXPECT_LT(recycled.reuse_depth, static_cast<int>(generator_->tokenizer().Encode(text).size()));
  EXPECT_EQ(recycled.limited_by, cache::LimitedBy::kCorrupt);
  if (recycled.exact_claimed) ExpectEqual(recycled, Baseline(prompt));
  // A view from before the block was set aside plans with it again.
  const Generation again = Recycled(prompt, view);
  EXPECT_EQ(again.reuse_depth, recycled.reuse_depth);
  EXPECT_EQ(again.limited_by, cache::LimitedBy::kEvicted);
  EXPECT_EQ(again.tokens, recycled.tokens);
}

TEST_P(GeneratorTest, PromptsAtBlockEdgesRun) {
  const std::string text = RandomText(70, 6);
  const Tokens tokens = generator_->tokenizer().Encode(text);
  generator_->Save(text);
  for (const std::size_t count : {std::size_t{1}, std::size_t{kBlock - 1}, std::size_t{kBlock},
                                  std::size_t{kBlock + 1}, std::size_t{2 * kBlock}}) {
    SCOPED_TRACE(count);
    Request request = MakeRequest(text, Arm::kBaseline);
    request.tokens.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count));
    request.text = TextOf(tokens, count);
    const Generation baseline = generator_->Generate(request);
    const cache::View view = generator_->store()->MakeView();
    request.arm = Arm::kRecycled;
    request.view = &view;
    const Generation recycled = generator_->Generate(request);
    EXPECT_EQ(recycled.reuse_depth, static_cast<int>(count) - 1);
    if (recycled.exact_claimed) ExpectEqual(recycled, baseline);
  }
}

// A policy that is no member of the program's list: the entry that was stored last, verified.
cache::Plan FindNewest(Generator&, const Request& request, const cache::Query& query, Stopwatch&,
                       Generation&) {
  const auto last = static_cast<std::uint32_t>(request.view->entries().size() - 1);
  const cache::Candidate newest{.entry = last};
  return request.view->LongestVerified({&newest, 1}, query);
}

TEST_P(GeneratorTest, AddingOnePolicyIsOneFileAndOneLine) {
  const Policy policy{.name = "newest", .by_similarity = false, .find = FindNewest};
  std::vector<Policy> more(kPolicies.begin(), kPolicies.end());
  more.push_back(policy);
  EXPECT_EQ(PolicyNames(more), (std::vector<std::string>{"embedding", "prefix", "off", "newest"}));
  EXPECT_EQ(FindingPolicyNames(more), (std::vector<std::string>{"embedding", "prefix", "newest"}));
  EXPECT_EQ(PolicyFromString("newest", more), policy);
  std::string message;
  KVR_EXPECT_ERROR((void)PolicyFromString("oldest", more), kInvalidInput, message);
  EXPECT_EQ(message, "policy: found 'oldest', expected embedding, prefix, off or newest");

  const std::string text = RandomText(40, 11), prompt = text + " and so on";
  generator_->Save(text);
  const Generation hit = Recycled(prompt, policy);
  EXPECT_EQ(hit.outcome, Outcome::kHit);
  EXPECT_FALSE(hit.similarity.has_value());
  if (hit.exact_claimed) ExpectEqual(hit, Baseline(prompt));
  generator_->Save("quotes");
  EXPECT_EQ(Recycled(prompt, policy).outcome, Outcome::kMiss);  // the walk would still find it
}

}  // namespace
}  // namespace kvr::engine

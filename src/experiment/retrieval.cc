#include "kvr/experiment/retrieval.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "embedding_file.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/hash.h"
#include "kvr/base/interrupt.h"
#include "kvr/experiment/environment.h"
#include "kvr/experiment/lookups.h"
#include "kvr/model/encoder.h"
#include "kvr/model/runtime.h"
#include "kvr/record/run_folder.h"
#include "kvr/text/tokenizer.h"
#include "kvr/text/wordpiece.h"
#include "shuffle.h"

namespace kvr::experiment {
namespace {

constexpr const char* kEmbeddings = "embeddings.f32";

struct Embedded {
  std::vector<float> values;
  std::size_t pieces = 0, pieces_embedded = 0;
};

// The sentence encoder and its word pieces, as the engine uses them.
class TextEncoder {
 public:
  explicit TextEncoder(const std::string& path)
      : encoder_(path),
        pieces_(encoder_.info().metadata.at("tokenizer"), encoder_.info().tokenizer_model) {}

  [[nodiscard]] const std::string& fingerprint() const { return encoder_.info().fingerprint; }
  [[nodiscard]] std::size_t width() const {
    return static_cast<std::size_t>(encoder_.info().width);
  }
  Embedded Embed(const std::string& text) {
    const text::WordPieces pieces =
        pieces_.Encode(text, static_cast<std::size_t>(encoder_.info().context_tokens));
    return {encoder_.Embed(pieces.ids), pieces.pieces_total, pieces.ids.size()};
  }

 private:
  model::Encoder encoder_;
  text::WordPiece pieces_;
};

std::int64_t LookupsOf(const Config& config) {
  const RetrievalSettings& settings = *config.retrieval;
  return static_cast<std::int64_t>(config.models.size() * settings.distractors.size() *
                                   QueryKinds().size() * config.reuses.size()) *
         settings.queries * config.repetitions;
}

std::string DigestOf(const RetrievalTexts& texts) {
  Sha256 digest;
  for (const RetrievalQuery& query : texts.queries) {
    digest.Update(DumpLine({query.id, query.text, query.cached}));
  }
  digest.Update(DumpLine(texts.distractors));
  return Hex(digest.Finish());
}

class Study {
 public:
  Study(const Config& config, const SweepOptions& options)
      : config_(config),
        options_(options),
        folder_(options.folder),
        texts_(MakeRetrievalTexts(Corpus(config.retrieval->texts), *config.retrieval,
                                  config.sampling.seed)) {
    model::SetUpRuntime(config.threads);
  }

  void Run() {
    Open();
    if (static_cast<std::int64_t>(finished_.size()) < LookupsOf(config_)) {
      Tell("loading " + config_.encoder);
      encoder_.emplace(config_.encoder);
      for (const ModelChoice& choice : config_.models) AddModel(Info(choice));
      EmbedAll();
      for (const ModelChoice& choice : config_.models) RunModel(Info(choice));
    }
    std::filesystem::remove(folder_.path() / kEmbeddings);
    run_.finished = UtcTimestamp(UnixSeconds());
    folder_.Write(run_);
  }

 private:
  void Tell(const std::string& what) const {
    ThrowIfInterrupted();
    if (options_.progress) options_.progress(what, done_, total_);
  }

  // Begins a run in the folder, or takes up the one that was left there.
  void Open() {
    run_.name = config_.name;
    run_.config = config_.json;
    for (const RetrievalQuery& query : texts_.queries) run_.prompts.push_back(query.id);
    run_.prompts_sha256 = DigestOf(texts_);
    run_.environment = DescribeEnvironment();
    run_.started = UtcTimestamp(UnixSeconds());
    if (options_.resume && folder_.HoldsRun()) {
      folder_.DropTornLines();
      record::Run before = record::ReadRun(folder_.path());
      record::CheckResumes(before, run_, folder_.path().string());
      for (const std::string& warning : before.warnings) spdlog::warn("{}", warning);
      for (const record::Lookup& lookup : before.lookups) finished_.insert(Identity(lookup));
      before.lookups.clear();
      before.finished.reset();
      run_ = std::move(before);
      resumed_ = true;
    } else {
      record::CheckFree(folder_.path());
    }
    folder_.Write(run_);
  }

  void EmbedAll() {
    for (const std::string& text : texts_.distractors) cached_.push_back({text, {}});
    for (const RetrievalQuery& query : texts_.queries) {
      for (const std::string& text : query.cached) cached_.push_back({text, {}});
    }
    total_ = std::ssize(cached_) + std::ssize(texts_.queries) + LookupsOf(config_) -
             std::ssize(finished_);
    EmbeddingFile file(folder_.path() / kEmbeddings, encoder_->width(), resumed_);
    for (std::size_t i = 0; i < cached_.size(); ++i, ++done_) {
      auto& [text, embedding] = cached_[i];
      Tell("embedding");
      if (i < file.read().size()) {
        embedding = file.read()[i];
      } else {
        embedding = encoder_->Embed(text).values;
        file.Append(embedding);
      }
    }
    for (const RetrievalQuery& query : texts_.queries) {
      Tell("embedding");
      embedded_.push_back(encoder_->Embed(query.text));
      ++done_;
    }
  }

  static model::ArchiveInfo Info(const ModelChoice& choice) {
    return model::ReadArchiveInfo(choice.path, "language_model");
  }

  void RunModel(const model::ArchiveInfo& info) {
    const text::Tokenizer tokenizer(info.metadata.at("tokenizer"), info.tokenizer_model);
    std::vector<Tokens> queries;
    for (const RetrievalQuery& query : texts_.queries) {
      queries.push_back(tokenizer.Encode(query.text));
    }
    const Digest root = Sha256Of(info.fingerprint);
    cache::IndexPicture picture;
    for (const auto& [text, embedding] : cached_) {
      Tell("reading " + info.name + "'s tokens");
      AddEntry(root, text, tokenizer.Encode(text), embedding, &picture);
    }
    const auto block = static_cast<std::uint32_t>(config_.block_tokens);
    const cache::View all(std::move(picture), root, block);
    for (const int distractors : config_.retrieval->distractors) {
      Tell(fmt::format("making {} entries", distractors));
      RunSize(info, distractors, ViewWith(all, distractors), queries);
    }
  }

  void AddModel(const model::ArchiveInfo& info) {
    record::ModelInfo model{.name = info.name,
                            .precision = info.precision,
                            .fingerprint = info.fingerprint,
                            .encoder_fingerprint = encoder_->fingerprint(),
                            .random_weights = info.random_weights};
    const auto before = std::ranges::find_if(run_.models, [&](const record::ModelInfo& other) {
      return other.name == model.name && other.precision == model.precision;
    });
    if (before == run_.models.end()) {
      run_.models.push_back(std::move(model));
      folder_.Write(run_);
    } else if (before->fingerprint != model.fingerprint ||
               before->encoder_fingerprint != model.encoder_fingerprint) {
      throw Incompatible(folder_.path().string() + " was begun with another archive of " +
                         model.name + " or of its encoder; start a new run");
    }
  }

  // As the index has it, with its blocks.
  void AddEntry(const Digest& root, const std::string& text, Tokens tokens,
                const std::vector<float>& embedding, cache::IndexPicture* picture) const {
    if (tokens.empty()) throw InvalidInput("texts: no tokens for \"" + Shortened(text, 60) + "\"");
    cache::EntryRow row{.text = text,
                        .tokens = std::move(tokens),
                        .embedding = embedding,
                        .encoder = encoder_->fingerprint(),
                        .created_us = std::ssize(picture->entries) + 1};
    // Texts may be the same; entries are told apart by their place.
    row.id = Sha256Of(std::to_string(row.created_us));
    for (const cache::ChainLink& link :
         cache::Chain(root, row.tokens, static_cast<std::uint32_t>(config_.block_tokens))) {
      row.chain.push_back(link.hash);
      picture->blocks[link.hash] = {link.hash, link.parent, link.count, 1};
    }
    picture->entries.push_back(std::move(row));
  }

  // The first `distractors` of them, and all that is cached of queries.
  [[nodiscard]] cache::View ViewWith(const cache::View& all, int distractors) const {
    std::vector<Digest> ids;
    for (std::size_t i = 0; i < all.entries().size(); ++i) {
      const bool own = i >= texts_.distractors.size();
      if (own || i < static_cast<std::size_t>(distractors)) ids.push_back(all.entries()[i]->id);
    }
    return all.Subset(ids);
  }

  // All look-ups of one model among so many distractors.
  void RunSize(const model::ArchiveInfo& info, int distractors, const cache::View& view,
               const std::vector<Tokens>& tokens) {
    std::vector<std::vector<Lookup>> planned;  // of each query
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      Tell("comparing tokens");
      planned.push_back(PlanLookups(info, distractors, view, i, tokens[i]));
    }
    for (int round = 0; round < config_.repetitions; ++round) {
      std::mt19937_64 random(config_.sampling.seed + static_cast<std::uint64_t>(round));
      std::vector<std::size_t> order(tokens.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      Shuffle(&order, &random);
      for (const std::size_t query : order) {
        std::vector<Lookup> lookups = planned[query];
        std::erase_if(lookups, [&](Lookup& lookup) {
          lookup.row.repetition = round;
          return finished_.contains(Identity(lookup.row));
        });
        Shuffle(&lookups, &random);
        if (!lookups.empty()) Measure(view, query, tokens[query], &lookups);
      }
    }
  }

  // A look-up to come, and what is known of it before.
  struct Lookup {
    const engine::Reuse* reuse = nullptr;
    record::Lookup row;
  };

  [[nodiscard]] cache::Query QueryFor(std::size_t query, const Tokens& tokens,
                                      const engine::Reuse& reuse) const {
    return {.tokens = tokens,
            .text = texts_.queries[query].text,
            .match = reuse.match,
            .minimum_depth = reuse.min_depth};
  }

  std::vector<Lookup> PlanLookups(const model::ArchiveInfo& info, int distractors,
                                  const cache::View& view, std::size_t query,
                                  const Tokens& tokens) const {
    const auto block = static_cast<std::uint32_t>(config_.block_tokens);
    const Embedded& embedded = embedded_[query];
    std::vector<Lookup> lookups;
    for (const engine::Reuse& reuse : config_.reuses) {
      const cache::Query looked_for = QueryFor(query, tokens, reuse);
      const std::uint32_t available = AvailableDepth(view, looked_for, block);
      record::Lookup row{.model = info.name,
                         .precision = info.precision,
                         .workload = texts_.queries[query].kind,
                         .control = texts_.queries[query].control,
                         .prompt_id = texts_.queries[query].id,
                         .policy = engine::ToString(reuse.policy),
                         .match = cache::ToString(reuse.match),
                         .distractors = distractors,
                         .entries = std::ssize(view.entries()),
                         .prompt_tokens = std::ssize(tokens),
                         .pieces = static_cast<std::int64_t>(embedded.pieces),
                         .pieces_embedded = static_cast<std::int64_t>(embedded.pieces_embedded),
                         .available_depth = available};
      if (reuse.policy.by_similarity) {
        row.candidates = reuse.candidates;
        row.rank = RankOfDepth(view, looked_for, {embedded.values, encoder_->fingerprint()},
                               reuse.min_similarity, available, block);
      }
      lookups.push_back({&reuse, std::move(row)});
    }
    return lookups;
  }

  // Embeds the query once, for all that need it.
  void Measure(const cache::View& view, std::size_t query, const Tokens& tokens,
               std::vector<Lookup>* lookups) {
    Tell(fmt::format("{} distractors, {}", lookups->front().row.distractors,
                     texts_.queries[query].id));
    Stopwatch watch;
    const Embedded embedded = encoder_->Embed(texts_.queries[query].text);
    const double embed_ms = watch.LapMs();
    for (auto& [reuse, row] : *lookups) {
      const cache::Query looked_for = QueryFor(query, tokens, *reuse);
      watch.LapMs();
      const Found found =
          LookUp(view, *reuse, looked_for, {embedded.values, encoder_->fingerprint()});
      row.lookup_ms = watch.LapMs();
      if (reuse->policy.by_similarity) row.embed_ms = embed_ms;
      row.reuse_depth = found.plan.depth;
      row.limited_by = cache::ToString(found.plan.limited_by);
      row.similarity = found.similarity;
      folder_.Append(row);
      if (options_.first_cell && !std::exchange(began_, true)) options_.first_cell();
      ++done_;
    }
  }

  const Config& config_;
  const SweepOptions& options_;
  const record::RunFolder folder_;
  const RetrievalTexts texts_;
  std::optional<TextEncoder> encoder_;
  std::vector<std::pair<std::string, std::vector<float>>> cached_;  // texts and embeddings
  std::vector<Embedded> embedded_;                                  // queries
  record::Run run_;
  std::set<std::string> finished_;  // look-ups that a resumed run has, by their identity
  std::int64_t done_ = 0, total_ = 0;
  bool resumed_ = false;
  bool began_ = false;  // look-ups of this process
};

}  // namespace

std::int64_t CheckRetrieval(const Config& config) {
  for (std::size_t i = 0; i < config.reuses.size(); ++i) {
    const engine::Reuse& reuse = config.reuses[i];
    const std::string where = fmt::format("reuses/{}: ", i);
    if (reuse.cold || reuse.codec != cache::Codec::kFp32) {
      throw InvalidInput(where +
                         "found a codec or page cache, expected none with workload "
                         "\"retrieval\", which restores nothing");
    }
    if (reuse.policy != engine::Policy::kEmbedding && reuse.policy != engine::Policy::kPrefix) {
      throw InvalidInput(where + "found policy " + reuse.policy.name +
                         ", expected embedding or prefix with workload \"retrieval\"");
    }
  }
  (void)MakeRetrievalTexts(Corpus(config.retrieval->texts), *config.retrieval,
                           config.sampling.seed);
  return LookupsOf(config);
}

void RunRetrieval(const Config& config, const SweepOptions& options) {
  Study(config, options).Run();
}

}  // namespace kvr::experiment

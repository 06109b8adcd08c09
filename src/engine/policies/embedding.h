// embedding: the entries whose texts' embeddings are nearest to the prompt's, each compared with
// the prompt token by token (the paper's way).
#pragma once

#include "kvr/engine/generator.h"

namespace kvr::engine::policies {

inline cache::Plan FindNearest(Generator& generator, const Request& request,
                               const cache::Query& query, Stopwatch& watch,
                               Generation& generation) {
  const Generator::Embedding embedding = generator.Embed(request.text);
  generation.timings.embed_ms = watch.LapMs();
  const std::vector<cache::Candidate> candidates = request.view->Nearest(
      embedding.values, generator.encoder()->info().fingerprint,
      static_cast<std::size_t>(request.reuse.candidates), request.reuse.min_similarity);
  if (!candidates.empty()) generation.similarity = candidates.front().similarity;
  return request.view->LongestVerified(candidates, query);
}

inline constexpr Policy kEmbedding = {
    .name = "embedding", .by_similarity = true, .find = FindNearest};

}  // namespace kvr::engine::policies

// Picks the next token. Greedy at temperature 0; otherwise temperature, top-k, top-p, in this
// order, with a generator of its own, so that equal logits and seed give equal tokens anywhere.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "kvr/base/types.h"

namespace kvr::engine {

struct Sampling {
  double temperature = 0;  // 0: greedy
  int top_k = 0;           // 0: all
  double top_p = 1;        // 1: all
  std::uint64_t seed = 0;

  // Throws kInvalidInput naming the option that is out of range.
  void Check() const;
};

class Sampler {
 public:
  explicit Sampler(const Sampling& sampling);

  // Greedy ties go to the smaller id. Cost: a pass over the logits; when sampling, a sort of those
  // that top-k and top-p leave in question.
  [[nodiscard]] Token Pick(std::span<const float> logits);

 private:
  Sampling sampling_;
  std::mt19937_64 random_;
};

}  // namespace kvr::engine

#include "kvr/engine/sampler.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "kvr/base/error.h"

namespace kvr::engine {

void Sampling::Check() const {
  if (!(temperature >= 0 && std::isfinite(temperature))) {
    throw InvalidInput(
        fmt::format("temperature: found {}, expected a number from 0 (greedy) up", temperature));
  }
  if (top_k < 0) {
    throw InvalidInput(fmt::format("top_k: found {}, expected 0 (all) or more", top_k));
  }
  if (!(top_p > 0 && top_p <= 1)) {
    throw InvalidInput(fmt::format("top_p: found {}, expected 0 < top_p <= 1", top_p));
  }
}

Sampler::Sampler(const Sampling& sampling) : sampling_(sampling), random_(sampling.seed) {
  sampling.Check();
}

Token Sampler::Pick(std::span<const float> logits) {
  if (sampling_.temperature == 0) {
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<Token> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](Token a, Token b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (sampling_.top_k > 0 && static_cast<std::size_t>(sampling_.top_k) < order.size()) {
    std::nth_element(order.begin(), order.begin() + sampling_.top_k, order.end(), likelier);
    order.resize(static_cast<std::size_t>(sampling_.top_k));
  }
  std::sort(order.begin(), order.end(), likelier);

  std::vector<double> weights(order.size());
  const double top = logits[static_cast<std::size_t>(order[0])];
  for (std::size_t i = 0; i < order.size(); ++i) {
    weights[i] =
        std::exp((logits[static_cast<std::size_t>(order[i])] - top) / sampling_.temperature);
  }
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (sampling_.top_p < 1) {
    // The smallest set of the likeliest tokens that holds at least top_p of the mass.
    double mass = 0;
    std::size_t kept = 0;
    while (kept < weights.size() && mass < sampling_.top_p * total) mass += weights[kept++];
    weights.resize(kept);
    total = mass;
  }
  // 53 random bits: std::uniform_real_distribution differs between standard libraries.
  const double draw = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  double below = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    below += weights[i];
    if (draw < below) return order[i];
  }
  return order[weights.size() - 1];
}

}  // namespace kvr::engine

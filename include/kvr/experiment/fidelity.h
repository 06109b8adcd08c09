// How far a recycled output is from its baseline: tokens, logits, distributions, text.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/engine/generator.h"

namespace kvr::experiment {

struct Fidelity {
  bool exact = false;       // same tokens, and every compared logit equal
  int compared_tokens = 0;  // steps along the baseline's tokens
  std::optional<int> first_divergence;  // index of the first new token that differs
  double max_abs_logit_diff = 0;
  double kl_mean = 0, kl_max = 0;  // KL(baseline || recycled), nats per step
  double top1 = 1;                 // share of steps whose likeliest token agrees
  std::optional<double> cosine;    // of the outputs' sentence embeddings
  std::optional<double> rouge_l;
  std::string semantic;  // "measured", "random weights" or "first token only"
};

[[nodiscard]] Json ToJson(const Fidelity& fidelity);

// KL(p || q) in nats of the softmax distributions of two rows of logits, summed in double.
[[nodiscard]] double KlDivergence(std::span<const float> p_logits, std::span<const float> q_logits);

// ROUGE-L's F-measure with beta 1 (Lin, 2004) over lower-cased words: runs of letters, digits and
// bytes beyond ASCII. 1 for two texts without words, 0 when one alone has none.
[[nodiscard]] double RougeL(std::string_view a, std::string_view b);

// Compares `recycled`, made by `request`, with `baseline`, both with logits kept. Where the tokens
// part, `request` is run again along the baseline's tokens (teacher forcing), off every clock.
// `semantic` asks for the text's measures too; needs an encoder for the cosine.
// REQUIRES: both generations have logits; baseline.tokens is not empty.
[[nodiscard]] Fidelity MeasureFidelity(engine::Generator& generator,
                                       const engine::Request& request,
                                       const engine::Generation& baseline,
                                       const engine::Generation& recycled, bool semantic);

}  // namespace kvr::experiment

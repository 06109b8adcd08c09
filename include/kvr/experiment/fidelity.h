// How far a recycled output is from its baseline: tokens, logits, distributions, text.
//
// Thread safety: as its generator; the measures are pure functions. Errors: the measures have none
// of their own; MeasureFidelity throws what the generator does.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "kvr/engine/generator.h"
#include "kvr/record/run.h"

namespace kvr::experiment {

// KL(p || q) in nats of the softmax distributions of two rows of logits of one length, summed in
// double. Cost: three exponentials a logit.
[[nodiscard]] double KlDivergence(std::span<const float> p_logits, std::span<const float> q_logits);

// ROUGE-L's F-measure with beta 1 (Lin, 2004) over lower-cased words: runs of letters, digits and
// bytes beyond ASCII. 0 when one text alone has no words, nothing when neither has: two empty
// replies are alike in no word. Cost: the product of their numbers of words.
[[nodiscard]] std::optional<double> RougeL(std::string_view a, std::string_view b);

// Compares `recycled`, made by `request`, with `baseline`, both with logits kept. A baseline that
// went on for longer is compared up to request.max_new_tokens. Where the tokens part, `request` is
// run again along the baseline's tokens (teacher forcing), off every clock. `semantic` asks for the
// text's measures too; needs an encoder for the cosine. REQUIRES: both generations have logits;
// baseline.tokens is not empty. Cost: a KL divergence a token whose logits differ; where tokens
// part, `request` again; with `semantic`, an embedding of each text.
[[nodiscard]] record::Fidelity MeasureFidelity(engine::Generator& generator,
                                               const engine::Request& request,
                                               const engine::Generation& baseline,
                                               const engine::Generation& recycled, bool semantic);

}  // namespace kvr::experiment

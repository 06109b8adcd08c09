#include "kvr/experiment/fidelity.h"

#include <algorithm>
#include <cassert>
#include <cctype>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

namespace kvr::experiment {

namespace {

using Rows = std::vector<std::vector<float>>;

constexpr const char* kWhitespace = " \t\r\n";

// log(sum(exp(row))) without overflow.
double LogSumExp(std::span<const float> row) {
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float x : row) sum += std::exp(x - top);
  return top + std::log(sum);
}

std::vector<std::string> WordsOf(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte) == 0) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    inside = true;
    words.back() += static_cast<char>(byte < 0x80 ? std::tolower(byte) : c);
  }
  return words;
}

// Fills in what rows of logits tell.
void CompareRows(std::span<const std::vector<float>> expected, const Rows& found,
                 record::Fidelity* fidelity) {
  const std::size_t steps = std::min(expected.size(), found.size());
  fidelity->compared_tokens = static_cast<std::int64_t>(steps);
  double kl_sum = 0, kl_max = 0, max_diff = 0;
  int agree = 0;
  for (std::size_t step = 0; step < steps; ++step) {
    const std::vector<float>& a = expected[step];
    const std::vector<float>& b = found[step];
    const auto top = [](const std::vector<float>& row) {
      return std::max_element(row.begin(), row.end()) - row.begin();
    };
    agree += top(a) == top(b) ? 1 : 0;
    if (std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0) continue;
    fidelity->exact = false;
    for (std::size_t i = 0; i < a.size(); ++i) {
      max_diff = std::max(max_diff, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    const double kl = KlDivergence(a, b);
    kl_sum += kl;
    kl_max = std::max(kl_max, kl);
  }
  fidelity->max_abs_logit_diff = max_diff;
  fidelity->kl_max = kl_max;
  fidelity->kl_mean = kl_sum / static_cast<double>(steps);
  fidelity->top1 = static_cast<double>(agree) / static_cast<double>(steps);
}

}  // namespace

double KlDivergence(std::span<const float> p_logits, std::span<const float> q_logits) {
  const double p_norm = LogSumExp(p_logits), q_norm = LogSumExp(q_logits);
  double sum = 0;
  for (std::size_t i = 0; i < p_logits.size(); ++i) {
    const double p_log = p_logits[i] - p_norm, q_log = q_logits[i] - q_norm;
    sum += std::exp(p_log) * (p_log - q_log);
  }
  return std::max(0.0, sum);
}

std::optional<double> RougeL(std::string_view a, std::string_view b) {
  const std::vector<std::string> x = WordsOf(a), y = WordsOf(b);
  if (x.empty() && y.empty()) return std::nullopt;
  if (x.empty() || y.empty()) return 0;
  // Longest common subsequence, one row at a time.
  std::vector<std::size_t> row(y.size() + 1);
  for (const std::string& word : x) {
    std::size_t diagonal = 0;
    for (std::size_t j = 1; j <= y.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = word == y[j - 1] ? diagonal + 1 : std::max(row[j], row[j - 1]);
      diagonal = above;
    }
  }
  // With precision lcs/|y| and recall lcs/|x|, F1 is 2 lcs / (|x| + |y|).
  return 2.0 * static_cast<double>(row[y.size()]) / static_cast<double>(x.size() + y.size());
}

record::Fidelity MeasureFidelity(engine::Generator& generator, const engine::Request& request,
                                 const engine::Generation& baseline,
                                 const engine::Generation& recycled, bool semantic) {
  assert(!baseline.tokens.empty() && baseline.logits.size() == baseline.tokens.size());
  record::Fidelity fidelity;
  const std::size_t steps = std::min(baseline.tokens.size(),
                                     static_cast<std::size_t>(std::max(1, request.max_new_tokens)));
  const Tokens expected(baseline.tokens.begin(),
                        baseline.tokens.begin() + static_cast<std::ptrdiff_t>(steps));
  const auto expected_logits = std::span(baseline.logits).first(steps);
  const auto differ = std::mismatch(expected.begin(), expected.end(), recycled.tokens.begin(),
                                    recycled.tokens.end());
  const bool same = differ.first == expected.end() && differ.second == recycled.tokens.end();
  fidelity.exact = same;
  if (!same) {
    fidelity.first_divergence = differ.first - expected.begin();
    engine::Request forced = request;
    forced.forced = expected;
    forced.keep_logits = true;
    forced.reuse.cold = false;
    forced.on_token = nullptr;
    CompareRows(expected_logits, generator.Generate(forced).logits, &fidelity);
  } else {
    CompareRows(expected_logits, recycled.logits, &fidelity);
  }
  if (generator.info().random_weights || !semantic) {
    fidelity.semantic = generator.info().random_weights ? "random weights" : "first token only";
    return fidelity;
  }
  const std::string a = generator.Text(expected), b = generator.Text(recycled.tokens);
  const auto empty = [](const std::string& text) {
    return text.find_first_not_of(kWhitespace) == std::string::npos;
  };
  if (empty(a) && empty(b)) {
    fidelity.semantic = "empty replies";
  } else {
    fidelity.semantic = "measured";
    fidelity.rouge_l = RougeL(a, b);
    if (generator.encoder() != nullptr && a == b) {
      fidelity.cosine = 1;
    } else if (generator.encoder() != nullptr) {
      const std::vector<float> x = generator.Embed(a).values, y = generator.Embed(b).values;
      double dot = 0;
      for (std::size_t i = 0; i < x.size(); ++i) dot += static_cast<double>(x[i]) * y[i];
      fidelity.cosine = std::min(1.0, dot);
    }
  }
  return fidelity;
}

}  // namespace kvr::experiment

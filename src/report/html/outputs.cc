#include "outputs.h"

#include <spdlog/fmt/fmt.h>

#include "markup.h"

namespace kvr::report {
namespace {

// Cells of one output, and the ways of reuse that they came by.
struct Output {
  const Cell* cell;
  std::optional<std::size_t> parts_at;  // from the baseline
  std::int64_t cells = 0;
  std::vector<std::string> ways;
};

// A prompt's outputs from one seed.
struct Compared {
  const Cell* baseline = nullptr;  // the longest
  std::int64_t equal = 0;
  std::vector<std::string> equal_ways;
  std::vector<Output> others;
};

void AddOnce(const std::string& word, std::vector<std::string>* words) {
  if (std::find(words->begin(), words->end(), word) == words->end()) words->push_back(word);
}

void AddCell(const Cell& cell, const std::string& way, Compared* compared) {
  const auto parts_at =
      compared->baseline ? FirstDifference(*compared->baseline, cell) : std::nullopt;
  if (compared->baseline && !parts_at) {
    ++compared->equal;
    AddOnce(way, &compared->equal_ways);
    return;
  }
  auto same = std::find_if(compared->others.begin(), compared->others.end(),
                           [&](const Output& o) { return o.cell->tokens == cell.tokens; });
  if (same == compared->others.end()) {
    same = compared->others.insert(same, Output{&cell, parts_at, 0, {}});
  }
  ++same->cells;
  AddOnce(way, &same->ways);
}

std::map<std::optional<std::uint64_t>, Compared> OutputsOf(const PromptCells& prompt) {
  std::map<std::optional<std::uint64_t>, Compared> by_seed;
  for (const Cell* cell : prompt.baseline) {
    const Cell*& longest = by_seed[cell->seed].baseline;
    if (!longest || cell->tokens.size() > longest->tokens.size()) longest = cell;
  }
  for (const auto& [variant, cells] : prompt.recycled) {
    const std::string way = variant == NullVariant() ? "null variant" : variant.Title();
    for (const Cell* cell : cells) AddCell(*cell, way, &by_seed[cell->seed]);
  }
  return by_seed;
}

// Where two texts part, at a character's first byte.
std::size_t CommonBytes(const std::string& a, const std::string& b) {
  std::size_t at = 0;
  while (at < a.size() && at < b.size() && a[at] == b[at]) ++at;
  const auto inside = [](const std::string& text, std::size_t i) {
    return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
  };
  while (at > 0 && (inside(a, at) || inside(b, at))) --at;
  return at;
}

std::string Text(const std::string& title, const std::string& text,
                 std::size_t marked_from = std::string::npos) {
  std::string out = "<div class=\"output\"><h4>" + HtmlText(title) + "</h4><pre dir=\"auto\">" +
                    HtmlText(text.substr(0, marked_from));
  if (marked_from != std::string::npos) {
    const std::string rest = text.substr(marked_from);
    out += "<mark>" + (rest.empty() ? "[ends here]" : HtmlText(rest)) + "</mark>";
  } else if (text.empty()) {
    out += "<span class=\"quiet\">(empty)</span>";
  }
  return out + "</pre></div>\n";
}

std::string Pair(const Cell* baseline, const Output& other) {
  const std::string who = fmt::format("{} ({} cells)", fmt::join(other.ways, "; "), other.cells);
  if (baseline == nullptr) return "<div>" + Text(who, other.cell->text) + "</div>";
  const bool same = baseline->text == other.cell->text;
  const std::size_t from = same ? std::string::npos : CommonBytes(baseline->text, other.cell->text);
  return fmt::format("<p>They part at new token {} (counted from 0){}.</p>\n",
                     other.parts_at.value_or(0), same ? ", in the same text" : "") +
         "<div class=\"pair\">" + Text("baseline", baseline->text, from) +
         Text(who, other.cell->text, from) + "</div>\n";
}

std::string Block(const std::optional<std::uint64_t>& seed, const Compared& compared) {
  std::string out;
  if (seed) out += fmt::format("<p class=\"quiet\">Seed {}</p>\n", *seed);
  if (compared.baseline == nullptr) out += "<p>No baseline to compare with.</p>\n";
  if (compared.equal > 0) {
    out += "<p>" +
           HtmlText(fmt::format("{}{} recycled outputs equal the baseline's: {}",
                                compared.others.empty() ? "All " : "", compared.equal,
                                fmt::join(compared.equal_ways, "; "))) +
           ".</p>\n";
  }
  for (const Output& other : compared.others) out += Pair(compared.baseline, other);
  if (compared.baseline != nullptr && compared.others.empty()) {
    out += Text(compared.equal > 0 ? "both arms" : "baseline", compared.baseline->text);
  }
  return out;
}

}  // namespace

std::string HtmlOutputs(const Scope& scope) {
  std::string prompts;
  std::int64_t differing = 0, without = 0;
  for (const PromptCells& prompt : scope.prompts) {
    std::string blocks;
    bool differs = false, compared_any = false;
    for (const auto& [seed, compared] : OutputsOf(prompt)) {
      blocks += Block(seed, compared);
      differs = differs || (compared.baseline != nullptr && !compared.others.empty());
      compared_any = compared_any || (compared.baseline != nullptr &&
                                      (compared.equal > 0 || !compared.others.empty()));
    }
    differing += differs ? 1 : 0;
    without += compared_any ? 0 : 1;
    prompts += std::string("<details class=\"prompt\"") + (differs ? " open" : "") +
               "><summary><bdi>" + HtmlText(prompt.id) + "</bdi> <span class=\"quiet\"><bdi>" +
               HtmlText(prompt.workload) + "</bdi>, " + std::to_string(prompt.tokens) +
               " tokens</span> " +
               (differs        ? "<strong class=\"differs\">differs</strong>"
                : compared_any ? "<span class=\"same\">equal</span>"
                               : "<span class=\"quiet\">not compared</span>") +
               "</summary>\n" + blocks + "</details>\n";
  }
  const std::int64_t compared = std::ssize(scope.prompts) - without;
  return fmt::format(
             "<p>{} of {} prompts: every recycled output equals the baseline's, token by "
             "token as far as both go.</p>\n",
             compared - differing, compared) +
         prompts;
}

}  // namespace kvr::report

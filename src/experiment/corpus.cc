#include "kvr/experiment/corpus.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <random>
#include <span>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/registry.h"
#include "kvr/base/utf8.h"
#include "kvr/experiment/setting_reader.h"
#include "shuffle.h"

namespace kvr::experiment {
namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";

bool EndsSentence(std::string_view word) {
  const std::size_t last = word.find_last_not_of("\"')]}");
  return last != std::string_view::npos &&
         (word[last] == '.' || word[last] == '?' || word[last] == '!');
}

using Words = std::span<const std::string_view>;

std::string Join(Words words) { return fmt::format("{}", fmt::join(words, " ")); }

// `parts` of four of the words.
Words Quarters(Words words, std::size_t parts) { return words.first(words.size() * parts / 4); }

// What is cached of a query; `other` is as much text again, that no query and no distractor has.
struct QueryKind {
  const char* name;
  bool control;
  std::vector<std::string> (*cached)(Words query, Words other);
};

constexpr std::array kKinds = {
    // Its beginning.
    QueryKind{
        "extends", false,
        [](Words query, Words) { return std::vector<std::string>{Join(Quarters(query, 3))}; }},
    // Three of its beginnings, of which the longest has the most to reuse.
    QueryKind{"lengths", false,
              [](Words query, Words) {
                return std::vector<std::string>{Join(Quarters(query, 1)), Join(Quarters(query, 2)),
                                                Join(Quarters(query, 3))};
              }},
    // A text that begins with its first half and goes on otherwise.
    QueryKind{"diverges", false,
              [](Words query, Words other) {
                return std::vector<std::string>{Join(Quarters(query, 2)) + " " +
                                                Join(Quarters(other, 2))};
              }},
    // Its first three quarters; and a text as long as itself, thus longer than those, that leaves
    // it at the half. An encoder that reads no further can't tell them apart.
    QueryKind{"forks", false,
              [](Words query, Words other) {
                return std::vector<std::string>{
                    Join(Quarters(query, 3)),
                    Join(Quarters(query, 2)) + " " +
                        Join(other.first(query.size() - Quarters(query, 2).size()))};
              }},
    // Its first half; and all but its first two words, which means the same and shares nothing.
    QueryKind{"shifted", false,
              [](Words query, Words) {
                return std::vector<std::string>{Join(Quarters(query, 2)), Join(query.subspan(2))};
              }},
    // Nothing.
    QueryKind{"unrelated", true, [](Words, Words) { return std::vector<std::string>{}; }},
};

int DrawLogUniform(const WordRange& range, std::mt19937_64* random) {
  const double share = static_cast<double>((*random)() >> 11) * 0x1p-53;
  const double low = std::log(range.low), high = std::log(range.high + 1.0);
  return std::min(range.high, static_cast<int>(std::exp(low + share * (high - low))));
}

// What a passage is cut for.
struct Order {
  std::optional<std::size_t> query;  // else a distractor
  int words = 0;

  // A query's passage is followed by as much text for whatever else its kind caches.
  [[nodiscard]] std::size_t needed() const {
    return static_cast<std::size_t>(words) * (query ? 2 : 1);
  }
};

std::vector<Order> DrawOrders(const RetrievalSettings& settings, std::mt19937_64* random) {
  std::vector<Order> orders;
  const std::size_t queries = kKinds.size() * static_cast<std::size_t>(settings.queries);
  for (std::size_t i = 0; i < queries; ++i) {
    orders.push_back({i, DrawLogUniform(settings.query_words, random)});
  }
  for (int i = 0; i < settings.distractors.back(); ++i) {
    orders.push_back({std::nullopt, DrawLogUniform(settings.distractor_words, random)});
  }
  return orders;
}

}  // namespace

Corpus::Corpus(const std::vector<std::filesystem::path>& files) {
  files_.reserve(files.size());  // words_ points into them
  for (const std::filesystem::path& file : files) {
    std::string& text = files_.emplace_back();
    if (file.extension() == ".jsonl") {
      for (const auto& [where, object] : PromptObjects(file.string(), file.string(), "")) {
        const auto found = object.is_object() ? object.find("text") : object.end();
        if (found == object.end() || !found->is_string()) {
          throw InvalidInput(where + ": has no text, expected a string named \"text\"");
        }
        text += found->get<std::string>() + "\n\n";
      }
    } else {
      Sanitized sanitized = SanitizeUtf8(ReadFile(file));
      if (sanitized.replaced > 0) {
        spdlog::warn("{}: {} byte sequences are not UTF-8 and were replaced by U+FFFD",
                     file.string(), sanitized.replaced);
      }
      text = std::move(sanitized.text);
    }
    Add(text);
  }
}

void Corpus::Add(std::string_view text) {
  bool begins = true;
  for (std::size_t at = 0;;) {
    const std::size_t first = text.find_first_not_of(kSpace, at);
    if (first == std::string_view::npos) return;
    const std::string_view gap = text.substr(at, first - at);
    const std::size_t end = std::min(text.find_first_of(kSpace, first), text.size());
    words_.push_back(text.substr(first, end - first));
    begins_.push_back(begins || std::ranges::count(gap, '\n') > 1);
    begins = EndsSentence(words_.back());
    at = end;
  }
}

std::vector<std::string_view> Corpus::Passage(std::size_t count, std::size_t* from) const {
  std::size_t first = *from;
  while (first < words_.size() && !begins_[first]) ++first;
  if (first + count > words_.size()) return {};
  *from = first + count;
  const auto begin = words_.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

std::vector<std::string> QueryKinds() { return NamesOf(std::span<const QueryKind>(kKinds)); }

RetrievalTexts MakeRetrievalTexts(const Corpus& corpus, const RetrievalSettings& settings,
                                  std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Order> orders = DrawOrders(settings, &random);
  Shuffle(&orders, &random);
  const auto preamble_words = static_cast<std::size_t>(settings.preamble_words);
  std::size_t needed = preamble_words;
  for (const Order& order : orders) needed += order.needed();
  // What is left over lies between the passages.
  const std::size_t left = corpus.words() - std::min(needed, corpus.words());
  RetrievalTexts texts;
  texts.queries.resize(kKinds.size() * static_cast<std::size_t>(settings.queries));
  std::size_t at = 0, before = preamble_words;
  std::string preamble;
  if (preamble_words > 0) preamble = Join(corpus.Passage(preamble_words, &at)) + " ";
  for (std::size_t i = 0; i < orders.size(); ++i) {
    at = std::max(at, before + left * i / orders.size());
    const std::vector<std::string_view> words = corpus.Passage(orders[i].needed(), &at);
    if (words.empty()) {
      throw InvalidInput(fmt::format(
          "texts: found {} words, expected {} and some more, as each passage begins with a "
          "sentence; give more texts, or fewer distractors or queries",
          corpus.words(), needed));
    }
    before += orders[i].needed();
    if (!orders[i].query) {
      texts.distractors.push_back(preamble + Join(words));
      continue;
    }
    const std::size_t query = *orders[i].query;
    const QueryKind& kind = kKinds[query % kKinds.size()];
    const Words own = Words(words).first(static_cast<std::size_t>(orders[i].words));
    texts.queries[query] = {.id = fmt::format("{}-{}", kind.name, query / kKinds.size() + 1),
                            .kind = kind.name,
                            .text = preamble + Join(own),
                            .control = kind.control,
                            .cached = kind.cached(own, Words(words).subspan(own.size()))};
    for (std::string& text : texts.queries[query].cached) text.insert(0, preamble);
  }
  return texts;
}

}  // namespace kvr::experiment

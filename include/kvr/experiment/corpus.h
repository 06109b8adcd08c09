// Real text, cut into passages, and what the retrieval study makes of them: queries, what is cached
// of each, and distractors.
//
// Thread safety: plain values and functions of their arguments and files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace kvr::experiment {

// How many words, both ends included; draws are log-uniform, so that each doubling gets as many.
struct WordRange {
  int low = 0, high = 0;
};

// The settings of workload "retrieval" (docs/config_format.md).
struct RetrievalSettings {
  std::vector<std::filesystem::path> texts;
  std::vector<int> distractors;  // numbers of them, rising
  WordRange distractor_words, query_words;
  int queries = 0;         // of each kind
  int preamble_words = 0;  // that all texts begin with, before what is theirs
};

// The words of some files, one after the other.
class Corpus {
 public:
  // A file *.jsonl has objects with a "text"; of others, empty lines end a paragraph. What is not
  // UTF-8 is replaced with a warning. Throws kNotFound for a missing file, kInvalidInput for a line
  // without a text. Cost: memory for the text, and as much again.
  explicit Corpus(const std::vector<std::filesystem::path>& files);
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  // A word is what white space surrounds.
  [[nodiscard]] std::size_t words() const { return words_.size(); }

  // `count` words, from the first beginning of a sentence at word `from` or later; `from` becomes
  // the word behind them. A sentence begins behind a word that ends in a full stop, question or
  // exclamation mark, and with a text or paragraph. Empty where there are no more.
  [[nodiscard]] std::vector<std::string_view> Passage(std::size_t count, std::size_t* from) const;

 private:
  void Add(std::string_view text);

  std::vector<std::string> files_;  // what the words lie in
  std::vector<std::string_view> words_;
  std::vector<bool> begins_;  // a sentence
};

struct RetrievalQuery {
  std::string id, kind, text;
  bool control = false;             // nothing is cached of it
  std::vector<std::string> cached;  // of it
};

struct RetrievalTexts {
  std::vector<RetrievalQuery> queries;
  std::vector<std::string> distractors;  // in random order: the first n of them are a sample
};

// Cuts the corpus without overlap, the passages spread evenly over it, in seeded random order.
// Throws kInvalidInput, saying how many words there are and are needed, when it has too few.
[[nodiscard]] RetrievalTexts MakeRetrievalTexts(const Corpus& corpus,
                                                const RetrievalSettings& settings,
                                                std::uint64_t seed);

// The names of the kinds of queries, in their order.
[[nodiscard]] std::vector<std::string> QueryKinds();

}  // namespace kvr::experiment

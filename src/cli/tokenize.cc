#include <spdlog/fmt/fmt.h>

#include <iostream>
#include <sstream>

#include "commands.h"
#include "kvr/base/error.h"

namespace kvr::cli {

namespace {

struct TokenizeOptions {
  std::string model = "models/smollm2.pt";
  std::string text = "-";
  std::string jsonl;
  bool decode = false;
  bool json = false;
};

// Ids as people and JSON write them: separated by spaces or commas, brackets allowed.
Tokens ParseIds(const std::string& text) {
  std::string plain = text;
  for (char& c : plain) {
    if (c == ',' || c == '[' || c == ']') c = ' ';
  }
  std::istringstream words(plain);
  Tokens ids;
  for (std::string word; words >> word;) {
    try {
      std::size_t used = 0;
      ids.push_back(std::stoi(word, &used));
      if (used != word.size()) throw std::invalid_argument(word);
    } catch (const std::exception&) {
      throw InvalidInput(fmt::format("--decode: found '{}', expected token ids", word));
    }
  }
  return ids;
}

// A language model's tokenizer or an encoder's, as the archive has it.
class AnyTokenizer {
 public:
  explicit AnyTokenizer(const model::ArchiveInfo& info) {
    const Json& spec = info.metadata.at("tokenizer");
    if (info.kind == "encoder") {
      pieces_.emplace(spec, info.tokenizer_model);
    } else {
      tokenizer_.emplace(spec, info.tokenizer_model);
    }
  }
  [[nodiscard]] Tokens Encode(std::string_view text) const {
    // No cut at the encoder's limit: this command shows the whole.
    return tokenizer_ ? tokenizer_->Encode(text)
                      : pieces_->Encode(text, std::numeric_limits<std::size_t>::max()).ids;
  }
  [[nodiscard]] std::string Decode(const Tokens& ids) const {
    if (!tokenizer_) throw InvalidInput("--decode: an encoder's word pieces can't be decoded");
    return tokenizer_->Decode(ids);
  }

 private:
  std::optional<text::Tokenizer> tokenizer_;
  std::optional<text::WordPiece> pieces_;
};

void Run(const TokenizeOptions& options) {
  const AnyTokenizer tokenizer(model::ReadArchiveInfo(options.model));
  if (!options.jsonl.empty()) {
    for (const BatchLine& line : ReadBatch(options.jsonl)) {
      std::cout << DumpLine(tokenizer.Encode(line.text)) << "\n";
    }
    return;
  }
  const std::string input = options.text == "-" ? ReadStdin() : options.text;
  if (options.decode) {
    const std::string text = tokenizer.Decode(ParseIds(input));
    std::cout << (options.json ? DumpLine({{"text", text}}) : text) << "\n";
    return;
  }
  const Tokens ids = tokenizer.Encode(Sanitize(input, "the text"));
  if (options.json) {
    std::cout << DumpLine({{"ids", ids}, {"count", ids.size()}}) << "\n";
    return;
  }
  for (std::size_t i = 0; i < ids.size(); ++i) std::cout << (i > 0 ? " " : "") << ids[i];
  std::cout << "\n";
}

}  // namespace

void AddTokenize(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenize", "Text to token ids, and back");
  const auto options = std::make_shared<TokenizeOptions>();
  command->add_option("-m,--model", options->model, "Language model or encoder archive")
      ->capture_default_str();
  command->add_option("text", options->text, "Text, or ids with --decode; - is standard input")
      ->capture_default_str();
  command->add_flag("--decode", options->decode, "Ids to text");
  command->add_option("--jsonl", options->jsonl,
                      "Lines of {\"text\": ...} from this file or -: one JSON array of ids each");
  command->add_flag("--json", options->json, "Machine-readable output");
  command->footer(
      "Examples:\n"
      "  kvr tokenize 'Hello, world'\n"
      "  kvr tokenize --decode '19556 28 905'\n"
      "  kvr tokenize --model models/minilm.pt --json - < page.txt");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli

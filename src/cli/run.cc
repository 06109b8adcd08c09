#include <spdlog/spdlog.h>
#include <unistd.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "kvr/base/interrupt.h"
#include "kvr/engine/prompt.h"
#include "kvr/experiment/fidelity.h"
#include "kvr/experiment/generation_record.h"

namespace kvr::cli {

namespace {

struct Options {
  ModelOptions model;
  std::string prompt;
  bool has_prompt = false;
  std::string prompt_file;
  std::string batch;
  std::string arm = "both";
  std::string policy = "prefix";
  std::string match = "token";
  std::string chat_template = "raw";
  std::string truncate = "refuse";
  int candidates = 5;
  float min_similarity = 0;
  int max_new_tokens = 64;
  engine::Sampling sampling;
  bool save = false;
  bool json = false;
  bool ignore_eos = false;
};

// Null where a phase did not run becomes 0.
Json GenerationJson(const record::Cell& cell, bool ended) {
  Json json = record::ToJson(cell);
  const Json zero = {
      {"restored_bytes", 0}, {"embed_ms", 0.0}, {"lookup_ms", 0.0}, {"restore_ms", 0.0}};
  Json shown = {{"ended", ended}};
  for (const char* key :
       {"arm", "outcome", "limited_by", "exact_claimed", "reuse_depth", "similarity", "entry",
        "restored_bytes", "embed_ms", "lookup_ms", "restore_ms", "prefill_ms", "ttft_ms",
        "decode_ms", "total_ms", "new_tokens", "tokens", "text"}) {
    shown[key] = json[key].is_null() ? zero.value(key, Json()) : std::move(json[key]);
  }
  return shown;
}

class Runner {
 public:
  Runner(const Options& options, engine::Generator& generator)
      : options_(options), generator_(generator), arms_(Arms()) {
    if (Uses(engine::Arm::kRecycled) || options.save) OpenCache();
    generator.WarmUp();
  }

  // Runs one prompt and prints the outcome.
  void Run(const BatchLine& line, bool batch) {
    const engine::Prompt prompt = engine::PreparePrompt(
        generator_, Sanitize(line.text, "prompt " + line.id), options_.chat_template == "chat",
        options_.truncate == "left", options_.max_new_tokens);
    if (prompt.truncated_tokens > 0) {
      spdlog::warn("prompt {}: its first {} tokens were cut to fit the context", line.id,
                   prompt.truncated_tokens);
    }
    std::optional<cache::View> view;
    if (Uses(engine::Arm::kRecycled) && Store() != nullptr) view = Store()->MakeView();

    Json result = {{"id", line.id},
                   {"codec", cache::ToString(options_.model.codec)},
                   {"prompt_tokens", prompt.tokens.size()},
                   {"truncated_tokens", prompt.truncated_tokens},
                   {"arms", Json::array()}};
    std::vector<engine::Request> requests;
    std::vector<engine::Generation> generations;
    for (const engine::Arm arm : arms_) {
      requests.push_back(MakeRequest(prompt, arm, view ? &*view : nullptr));
    }
    if (arms_.size() > 1) {
      // Once unmeasured: libtorch makes code for each new number of rows, at the cost of whoever
      // comes first.
      for (engine::Request request : requests) {
        request.max_new_tokens = 1;
        (void)generator_.Generate(request);
      }
    }
    for (std::size_t i = 0; i < arms_.size(); ++i) {
      ThrowIfInterrupted();
      const engine::Arm arm = arms_[i];
      const engine::Request& request = requests[i];
      const bool shown = !options_.json && !batch;
      if (shown && i == 0) {
        generations.push_back(Stream(request));
      } else {
        generations.push_back(generator_.Generate(request));
      }
      if (arm == engine::Arm::kRecycled && Store() == nullptr && options_.policy != "off") {
        // There was no cache to look in: a miss, like one where a block can't be read.
        generations.back().outcome = engine::Outcome::kMiss;
        generations.back().limited_by = cache::LimitedBy::kUnreadable;
      }
      if (shown && i > 0) PrintSecond(generations[0], generations[1]);
      record::Cell cell;
      cell.arm = engine::ToString(arm);
      experiment::Describe(generator_, request, generations.back(), &cell);
      result["arms"].push_back(GenerationJson(cell, generations.back().ended));
    }
    if (generations.size() == 2) {
      // Arms() puts the baseline first.
      result["fidelity"] = record::ToJson(experiment::MeasureFidelity(
          generator_, requests[1], generations[0], generations[1], /*semantic=*/true));
    }
    if (!options_.json) PrintTable(line, result, batch);
    if (options_.save) {  // the answer is out before
      result["save"] = TryToSave(prompt, generations.back());
      if (!options_.json && !result["save"].is_null()) PrintSaved(result["save"]);
    }
    if (options_.json) std::cout << DumpLine(result) << std::endl;
  }

 private:
  std::vector<engine::Arm> Arms() const {
    if (options_.arm == "baseline") return {engine::Arm::kBaseline};
    if (options_.arm == "recycled") return {engine::Arm::kRecycled};
    return {engine::Arm::kBaseline, engine::Arm::kRecycled};
  }

  bool Uses(engine::Arm arm) const {
    return std::find(arms_.begin(), arms_.end(), arm) != arms_.end();
  }

  cache::Store* Store() { return generator_.store(options_.model.codec); }

  // What can be computed is computed, whatever is wrong with the cache: it is then only read, or
  // not used at all, and that is said once.
  void OpenCache() {
    constexpr int kWaitMs = 2000;  // for a writer in another process
    const std::string& folder = options_.model.cache_dir;
    std::string why;
    for (const auto mode : {cache::Store::Mode::kReadWrite, cache::Store::Mode::kReadOnly}) {
      try {
        generator_.OpenStore(folder, {.mode = mode, .lock_timeout_ms = kWaitMs},
                             options_.model.codec);
        break;
      } catch (const Error& error) {
        if (error.kind() == Error::Kind::kInterrupted) throw;
        if (why.empty()) why = error.what();
      }
    }
    if (Store() == nullptr) {
      spdlog::warn("running without the cache {}: {}", folder, why);
      return;
    }
    if (!why.empty()) spdlog::warn("the cache {} is only read: {}", folder, why);
    const std::size_t caches = cache::ListCacheFolders(folder).size();
    if (caches > 1 && Store()->MakeView().entries().empty()) {
      spdlog::warn(
          "{} holds nothing for this model, codec, machine and settings; its other {} caches "
          "can't be used (kvr cache ls shows what they are for)",
          folder, caches - 1);
    }
  }

  // Null where it can't be saved, which is said once.
  Json TryToSave(const engine::Prompt& prompt, const engine::Generation& generation) {
    std::string why = "the cache is not open for writing";
    if (Store() != nullptr && !Store()->read_only()) {
      try {
        return Save(prompt, generation);
      } catch (const Error& error) {
        const bool of_the_cache = error.kind() == Error::Kind::kIo ||
                                  error.kind() == Error::Kind::kResource ||
                                  error.kind() == Error::Kind::kCorrupt;
        if (!of_the_cache) throw;
        why = error.what();
      }
    }
    if (!save_failed_) spdlog::warn("replies are not saved: {}", why);
    save_failed_ = true;
    return nullptr;
  }

  engine::Request MakeRequest(const engine::Prompt& prompt, engine::Arm arm,
                              const cache::View* view) const {
    engine::Request request;
    request.text = prompt.text;
    request.tokens = prompt.tokens;
    request.arm = arm;
    request.reuse = {.policy = view != nullptr ? engine::PolicyFromString(options_.policy)
                                               : engine::Policy::kOff,
                     .match = cache::MatchFromString(options_.match),
                     .candidates = options_.candidates,
                     .min_similarity = options_.min_similarity,
                     .codec = options_.model.codec};
    request.view = view;
    request.max_new_tokens = options_.max_new_tokens;
    request.sampling = options_.sampling;
    request.stop_at_eos = !options_.ignore_eos;
    request.keep_logits = arms_.size() == 2;
    return request;
  }

  // The text as it comes, on a terminal; whole, elsewhere.
  engine::Generation Stream(engine::Request request) {
    const bool terminal = ::isatty(STDOUT_FILENO) == 1;
    text::StreamDecoder decoder(generator_.tokenizer());
    std::cout << "--- " << engine::ToString(request.arm) << " ---\n";
    request.on_token = [&](Token token) {
      std::cout << decoder.Push(token);
      if (terminal) std::cout.flush();
    };
    engine::Generation generation = generator_.Generate(request);
    std::cout << decoder.Flush() << Ending(generation) << "\n";
    return generation;
  }

  // What follows a reply's text: its end, where the model ended it, and that there was none.
  std::string Ending(const engine::Generation& generation) const {
    if (!generation.ended) return "";
    const bool empty = generator_.Text(generation.tokens).empty();
    if (!empty) return "\n[end of text]";
    std::string advice = "--ignore-eos goes on";
    if (options_.chat_template == "raw" && generator_.chat_template()) {
      advice += ", --template chat asks for a reply";
    }
    return "(an empty reply: the model ended its text at once; " + advice + ")\n[end of text]";
  }

  void PrintSecond(const engine::Generation& first, const engine::Generation& second) {
    std::cout << "--- recycled ---\n";
    if (second.tokens == first.tokens) {
      std::cout << "(the same " << second.tokens.size()
                << (second.tokens.size() == 1 ? " token)\n" : " tokens)\n");
    } else {
      std::cout << generator_.Text(second.tokens) << Ending(second) << "\n";
    }
  }

  // The prompt with its reply becomes an entry. Where the prompt's beginning was cut off, what the
  // model has read is no text's tokens, and is stored as tokens alone.
  Json Save(const engine::Prompt& prompt, const engine::Generation& generation) {
    engine::SaveResult saved;
    if (prompt.truncated_tokens > 0) {
      Tokens tokens = prompt.tokens;
      tokens.insert(tokens.end(), generation.tokens.begin(), generation.tokens.end());
      saved = generator_.Save(std::move(tokens), options_.model.codec);
    } else {
      const std::string reply = generator_.tokenizer().Decode(generation.tokens);
      saved = generator_.Save(Sanitize(prompt.text + reply, "the reply"), options_.model.codec);
    }
    return {{"entry", Hex(saved.put.entry)},
            {"tokens", saved.tokens},
            {"prefilled", saved.prefilled},
            {"prefill_ms", saved.prefill_ms},
            {"save_ms", saved.save_ms},
            {"blocks_written", saved.put.blocks_written},
            {"blocks_shared", saved.put.blocks_shared},
            {"bytes", saved.put.bytes_written}};
  }

  void PrintTable(const BatchLine& line, const Json& result, bool batch) {
    std::vector<std::vector<std::string>> rows = {{"", "tokens", "depth", "embed", "lookup",
                                                   "restore", "prefill", "TTFT", "decode", "total",
                                                   "new", "found"}};
    for (const Json& arm : result["arms"]) {
      const auto ms = [&](const char* key) { return Fixed(arm[key].get<double>(), 1); };
      const std::string limit =
          arm["limited_by"].is_null() ? "" : ", " + arm["limited_by"].get<std::string>();
      rows.push_back({arm["arm"], DumpLine(result["prompt_tokens"]), DumpLine(arm["reuse_depth"]),
                      ms("embed_ms"), ms("lookup_ms"), ms("restore_ms"), ms("prefill_ms"),
                      ms("ttft_ms"), ms("decode_ms"), ms("total_ms"), DumpLine(arm["new_tokens"]),
                      arm["outcome"].get<std::string>() + limit});
    }
    if (batch) {
      std::cout << "prompt " << line.id << "\n";
      for (const Json& arm : result["arms"]) {
        std::cout << "--- " << arm["arm"].get<std::string>() << " ---\n"
                  << arm["text"].get<std::string>() << "\n";
      }
    }
    std::cout << (batch ? "" : "\n") << AlignColumns(rows) << "(times in ms)\n";
    if (result.contains("fidelity")) {
      PrintGain(result);
      PrintFidelity(result["fidelity"]);
    }
  }

  // What recycling gained, as a sentence.
  void PrintGain(const Json& result) const {
    const Json &baseline = result["arms"][0], &recycled = result["arms"][1];
    const double before = baseline["ttft_ms"], after = recycled["ttft_ms"];
    const double looking = recycled["embed_ms"].get<double>() + recycled["lookup_ms"].get<double>();
    if (recycled["outcome"] == "hit") {
      std::cout << "recycled " << recycled["reuse_depth"] << " of " << result["prompt_tokens"]
                << " prompt tokens: first token after " << Fixed(after, 1) << " ms instead of "
                << Fixed(before, 1) << ", " << Fixed(before / after, 2)
                << " times as fast; the whole reply "
                << Fixed(baseline["total_ms"].get<double>() / recycled["total_ms"].get<double>(), 2)
                << " times\n";
    } else if (recycled["outcome"] == "miss") {
      std::cout << "nothing recycled: "
                << (recycled["limited_by"] == "no_candidate"
                        ? "no cached prompt begins like this one"
                        : recycled["limited_by"].get<std::string>())
                << "; looking took " << Fixed(looking, 1) << " ms ("
                << Fixed(100 * looking / before, 1) << " % of the first token's)";
      if (!options_.save)
        std::cout << ". --save caches this prompt for the next that begins like it";
      std::cout << "\n";
    }
  }

  static void PrintFidelity(const Json& fidelity) {
    if (fidelity["exact"].get<bool>()) {
      std::cout << "output equal to the baseline's bit for bit\n";
      return;
    }
    std::cout << "output differs: max |logit difference| "
              << Fixed(fidelity["max_abs_logit_diff"].get<double>(), 6) << ", mean KL "
              << Fixed(fidelity["kl_mean"].get<double>(), 6);
    if (!fidelity["first_divergence"].is_null()) {
      std::cout << ", first different token " << DumpLine(fidelity["first_divergence"]);
    }
    std::cout << "\n";
  }

  static void PrintSaved(const Json& save) {
    std::cout << "saved as " << save["entry"].get<std::string>().substr(0, 12) << ": "
              << save["tokens"] << " tokens, " << save["prefilled"] << " prefilled again, "
              << save["blocks_written"] << " blocks written, " << save["blocks_shared"]
              << " shared, " << Fixed(save["save_ms"].get<double>(), 1) << " ms\n";
  }

  const Options& options_;
  engine::Generator& generator_;
  std::vector<engine::Arm> arms_;
  bool save_failed_ = false;
};

std::vector<BatchLine> Prompts(const Options& options) {
  const int given = (options.has_prompt ? 1 : 0) + (options.prompt_file.empty() ? 0 : 1) +
                    (options.batch.empty() ? 0 : 1);
  if (given != 1) {
    throw InvalidInput("give a prompt, --prompt-file or --batch, one of them; found " +
                       std::to_string(given));
  }
  if (!options.batch.empty()) return ReadBatch(options.batch);
  BatchLine line{"1", options.prompt};
  if (!options.prompt_file.empty()) {
    line = {options.prompt_file, ReadFile(options.prompt_file)};
  } else if (options.prompt == "-") {
    line.text = ReadStdin();
  }
  if (line.text.empty()) throw InvalidInput("the prompt is empty: at least one token is needed");
  return {line};
}

void Run(const Options& options) {
  options.sampling.Check();
  const std::vector<BatchLine> lines = Prompts(options);
  const bool embedding = options.policy == "embedding" || options.save;
  engine::Generator generator = options.model.Load(embedding);
  if (options.policy == "embedding" && generator.encoder() == nullptr) {
    throw InvalidInput(std::string("policy embedding needs an encoder: there is no ") +
                       kDefaultEncoder + "; give --encoder FILE");
  }
  Runner runner(options, generator);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    try {
      runner.Run(lines[i], !options.batch.empty());
    } catch (const Error& error) {
      if (options.batch.empty() || error.kind() == Error::Kind::kInterrupted) throw;
      throw Error(error.kind(), "prompt " + Shortened(lines[i].id, 60) + ": " + error.what() +
                                    " (" + std::to_string(i) + " of " +
                                    std::to_string(lines.size()) + " were answered before it)");
    }
  }
}

}  // namespace

void AddRun(CLI::App& app) {
  CLI::App* command = app.add_subcommand("run", "Run one prompt, both arms side by side");
  const auto options = std::make_shared<Options>();
  options->model.AddTo(command, true);
  options->model.AddCodecTo(command);
  CLI::Option* const prompt =
      command->add_option("prompt", options->prompt, "The prompt; - is standard input");
  command->add_option("-f,--prompt-file", options->prompt_file, "The prompt is this file's text");
  command->add_option("--batch", options->batch, "Lines of {\"id\": ..., \"text\": ...}, or -");
  command->add_option("--arm", options->arm, "baseline, recycled or both")
      ->capture_default_str()
      ->check(CLI::IsMember({"baseline", "recycled", "both"}));
  command->add_option("--policy", options->policy, "How entries are found")
      ->capture_default_str()
      ->check(CLI::IsMember({"embedding", "prefix", "off"}));
  command->add_option("--match", options->match, "How much of an entry may be reused")
      ->capture_default_str()
      ->check(CLI::IsMember({"whole", "token", "block"}));
  command->add_option("--candidates", options->candidates, "Policy embedding: entries looked at")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_option("--min-similarity", options->min_similarity, "Policy embedding: least cosine")
      ->capture_default_str();
  command->add_option("-n,--max-new-tokens", options->max_new_tokens, "New tokens")
      ->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0 is greedy")
      ->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "0 is all")->capture_default_str();
  command->add_option("--top-p", options->sampling.top_p, "1 is all")->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "Of the sampler")->capture_default_str();
  command->add_flag("--ignore-eos", options->ignore_eos, "Go on after the end-of-text token");
  command->add_option("--template", options->chat_template, "raw, or chat: the prompt is a turn")
      ->capture_default_str()
      ->check(CLI::IsMember({"raw", "chat"}));
  command
      ->add_option("--truncate", options->truncate,
                   "A prompt too long: refuse, or cut from the left")
      ->capture_default_str()
      ->check(CLI::IsMember({"refuse", "left"}));
  command->add_flag("--save", options->save, "Cache the prompt with its reply");
  command->add_flag("--json", options->json, "One JSON line for each prompt");
  command->footer(
      "Examples:\n"
      "  kvr run --prompt-file configs/prompts/library.txt --template chat --save\n"
      "  kvr run --prompt-file configs/prompts/library_2.txt --template chat\n"
      "      (begins like the first: its keys and values are recycled)\n"
      "  kvr run 'The capital of France is' --max-new-tokens 8 --ignore-eos\n"
      "  kvr run - --policy embedding --match whole < prompt.txt\n"
      "  kvr run --batch prompts.jsonl --json --arm recycled\n"
      "  kvr run 'You are a helpful librarian. Where are the maps?' --codec int8\n"
      "  kvr run 'Hello!' --template chat --save --temperature 0.7 --seed 1");
  command->callback([options, prompt] {
    options->has_prompt = prompt->count() > 0;
    Run(*options);
  });
}

}  // namespace kvr::cli

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <iostream>

#include "commands.h"
#include "kvr/base/clock.h"
#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/engine/prompt.h"
#include "kvr/experiment/fidelity.h"

namespace kvr::cli {

namespace {

struct Options {
  ModelOptions model;
  std::string prompt;
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

Json Optional(const auto& value) { return value ? Json(*value) : Json(nullptr); }

Json GenerationJson(const engine::Generator& generator, const engine::Generation& generation,
                    engine::Arm arm) {
  const engine::Timings& timings = generation.timings;
  return {{"arm", engine::ToString(arm)},
          {"outcome", engine::ToString(generation.outcome)},
          {"limited_by",
           generation.limited_by ? Json(cache::ToString(*generation.limited_by)) : Json(nullptr)},
          {"exact_claimed", generation.exact_claimed},
          {"reuse_depth", generation.reuse_depth},
          {"similarity", Optional(generation.similarity)},
          {"entry", generation.entry ? Json(Hex(*generation.entry)) : Json(nullptr)},
          {"restored_bytes", generation.restored_bytes},
          {"embed_ms", timings.embed_ms},
          {"lookup_ms", timings.lookup_ms},
          {"restore_ms", timings.restore_ms},
          {"prefill_ms", timings.prefill_ms},
          {"ttft_ms", timings.ttft_ms},
          {"decode_ms", timings.decode_ms},
          {"total_ms", timings.total_ms},
          {"new_tokens", generation.tokens.size()},
          {"ended", generation.ended},
          {"tokens", generation.tokens},
          {"text", generator.Text(generation.tokens)}};
}

class Runner {
 public:
  Runner(const Options& options, engine::Generator& generator)
      : options_(options), generator_(generator), arms_(Arms()) {
    if (Uses(engine::Arm::kRecycled) || options.save) {
      generator.OpenStore(options.model.cache_dir, {}, options.model.codec);
      const std::size_t caches = cache::ListCacheFolders(options.model.cache_dir).size();
      if (caches > 1 && generator.store(options.model.codec)->MakeView().entries().empty()) {
        spdlog::warn(
            "{} holds nothing for this model, codec, machine and settings; its other {} caches "
            "can't be used (kvr cache ls shows what they are for)",
            options.model.cache_dir, caches - 1);
      }
    }
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
    if (Uses(engine::Arm::kRecycled)) view = generator_.store(options_.model.codec)->MakeView();

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
      const bool stream = !options_.json && !batch;
      generations.push_back(stream ? Stream(request) : generator_.Generate(request));
      result["arms"].push_back(GenerationJson(generator_, generations.back(), arm));
    }
    if (generations.size() == 2) {
      // Arms() puts the baseline first.
      result["fidelity"] = experiment::ToJson(experiment::MeasureFidelity(
          generator_, requests[1], generations[0], generations[1], /*semantic=*/true));
    }
    // The answer is out before it is saved; a save that fails still ends the program with its
    // error.
    std::exception_ptr failed;
    if (!options_.json) PrintTable(line, result, batch);
    if (options_.save) {
      try {
        result["save"] = Save(prompt, generations.back());
        if (!options_.json) PrintSaved(result["save"]);
      } catch (const Error&) {
        failed = std::current_exception();
      }
    }
    if (options_.json) std::cout << DumpLine(result) << std::endl;
    if (failed) std::rethrow_exception(failed);
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

  engine::Request MakeRequest(const engine::Prompt& prompt, engine::Arm arm,
                              const cache::View* view) const {
    engine::Request request;
    request.text = prompt.text;
    request.tokens = prompt.tokens;
    request.arm = arm;
    request.reuse = {.policy = engine::PolicyFromString(options_.policy),
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
    bool first = true;
    request.on_token = [&](Token token) {
      if (first) std::cout << "--- " << engine::ToString(request.arm) << " ---\n";
      first = false;
      std::cout << decoder.Push(token);
      if (terminal) std::cout.flush();
      ThrowIfInterrupted();
    };
    engine::Generation generation = generator_.Generate(request);
    std::cout << decoder.Flush() << "\n";
    return generation;
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
      const Json& fidelity = result["fidelity"];
      const double base = result["arms"][0]["ttft_ms"], recycled = result["arms"][1]["ttft_ms"];
      std::cout << "TTFT speedup " << Fixed(base / recycled, 2) << ", output "
                << (fidelity["exact"].get<bool>() ? "equal bit for bit" : "differs")
                << ", max |logit difference| "
                << Fixed(fidelity["max_abs_logit_diff"].get<double>(), 6) << ", mean KL "
                << Fixed(fidelity["kl_mean"].get<double>(), 6);
      if (!fidelity["first_divergence"].is_null()) {
        std::cout << ", first different token " << DumpLine(fidelity["first_divergence"]);
      }
      std::cout << "\n";
    }
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
};

void Run(const Options& options) {
  options.sampling.Check();
  if (options.prompt.empty() == options.batch.empty()) {
    throw InvalidInput(options.batch.empty() ? "the prompt is empty: at least one token is needed"
                                             : "give a prompt or --batch, not both");
  }
  std::vector<BatchLine> lines;
  if (!options.batch.empty()) {
    lines = ReadBatch(options.batch);
  } else {
    lines.push_back({"1", options.prompt == "-" ? ReadStdin() : options.prompt});
  }
  const bool embedding = options.policy == "embedding" || options.save;
  engine::Generator generator = options.model.Load(embedding);
  if (options.policy == "embedding" && generator.encoder() == nullptr) {
    throw InvalidInput(std::string("policy embedding needs an encoder: there is no ") +
                       kDefaultEncoder + "; give --encoder FILE");
  }
  Runner runner(options, generator);
  for (const BatchLine& line : lines) runner.Run(line, !options.batch.empty());
}

}  // namespace

void AddRun(CLI::App& app) {
  CLI::App* command = app.add_subcommand("run", "Run one prompt, both arms side by side");
  const auto options = std::make_shared<Options>();
  options->model.AddTo(command, true);
  options->model.AddCodecTo(command);
  command->add_option("prompt", options->prompt, "The prompt; - is standard input");
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
      "  kvr run 'The capital of France is' --max-new-tokens 8\n"
      "  kvr run - --policy embedding --match whole < prompt.txt\n"
      "  kvr run --batch prompts.jsonl --json --arm recycled\n"
      "  kvr run 'You are a helpful librarian. Where are the maps?' --codec int8\n"
      "  kvr run 'Hello!' --template chat --save --temperature 0.7 --seed 1");
  command->callback([options] { Run(*options); });
}

}  // namespace kvr::cli

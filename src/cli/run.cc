#include "run.h"

#include <spdlog/fmt/fmt.h>

#include <iostream>

#include "kvr/base/error.h"
#include "kvr/base/file.h"
#include "run_prompt.h"

namespace kvr::cli {

namespace {

std::vector<BatchLine> Prompts(const RunOptions& options) {
  const int given = (options.has_prompt ? 1 : 0) + (options.prompt_file.empty() ? 0 : 1) +
                    (options.batch.empty() ? 0 : 1);
  if (given != 1) {
    throw InvalidInput(
        fmt::format("give a prompt, --prompt-file or --batch, one of them; found {}", given));
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

// Runs one prompt and prints the outcome.
void RunOne(const BatchLine& line, const RunOptions& options, engine::Generator& generator,
            PromptRunner& runner) {
  RunResult result;
  if (options.json || !options.batch.empty()) {
    result = runner.Run(line, [&](const auto& request) { return generator.Generate(request); });
  } else {
    ReplyPrinter replies(generator, options);
    result = runner.Run(line, [&](const auto& request) { return replies.Generate(request); });
  }
  if (!options.json) PrintRun(result, options);
  if (options.save) {  // the answer is out before
    runner.Save(&result);
    if (!options.json && result.saved) PrintSaved(*result.saved);
  }
  if (options.json) std::cout << DumpLine(ToJson(result)) << std::endl;
}

void Run(const RunOptions& options) {
  options.sampling.Check();
  const std::vector<BatchLine> lines = Prompts(options);
  const bool by_similarity = engine::PolicyFromString(options.policy).by_similarity;
  engine::Generator generator = options.model.Load(by_similarity || options.save);
  if (by_similarity && generator.encoder() == nullptr) {
    throw InvalidInput(
        fmt::format("policy {} needs an encoder: there is no {}; give --encoder FILE",
                    options.policy, kDefaultEncoder));
  }
  PromptRunner runner(options, generator);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    try {
      RunOne(lines[i], options, generator, runner);
    } catch (const Error& error) {
      if (options.batch.empty() || error.kind() == Error::Kind::kInterrupted) throw;
      throw Error(error.kind(),
                  fmt::format("prompt {}: {} ({} of {} were answered before it)",
                              Shortened(lines[i].id, 60), error.what(), i, lines.size()));
    }
  }
}

void AddReuse(CLI::App* command, RunOptions* options) {
  command->add_option("--arm", options->arm, "baseline, recycled or both")
      ->capture_default_str()
      ->check(CLI::IsMember({"baseline", "recycled", "both"}));
  command->add_option("--policy", options->policy, "How entries are found")
      ->capture_default_str()
      ->check(CLI::IsMember(engine::PolicyNames()));
  command->add_option("--match", options->match, "How much of an entry may be reused")
      ->capture_default_str()
      ->check(CLI::IsMember(cache::MatchNames()));
  command->add_option("--candidates", options->candidates, "Policy embedding: entries looked at")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_option("--min-similarity", options->min_similarity, "Policy embedding: least cosine")
      ->capture_default_str();
}

void AddSampling(CLI::App* command, RunOptions* options) {
  command->add_option("-n,--max-new-tokens", options->max_new_tokens, "New tokens")
      ->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0 is greedy")
      ->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "0 is all")->capture_default_str();
  command->add_option("--top-p", options->sampling.top_p, "1 is all")->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "Of the sampler")->capture_default_str();
  command->add_flag("--ignore-eos", options->ignore_eos, "Go on after the end-of-text token");
}

}  // namespace

void AddRun(CLI::App& app) {
  CLI::App* command = app.add_subcommand("run", "Run one prompt, both arms side by side");
  const auto options = std::make_shared<RunOptions>();
  options->model.AddTo(command, true);
  options->model.AddCodecTo(command);
  CLI::Option* const prompt =
      command->add_option("prompt", options->prompt, "The prompt; - is standard input");
  command->add_option("-f,--prompt-file", options->prompt_file, "The prompt is this file's text");
  command->add_option("--batch", options->batch, "Lines of {\"id\": ..., \"text\": ...}, or -");
  AddReuse(command, options.get());
  AddSampling(command, options.get());
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

#include "run_prompt.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "kvr/base/error.h"
#include "kvr/base/interrupt.h"
#include "kvr/experiment/fidelity.h"
#include "kvr/experiment/generation_record.h"

namespace kvr::cli {

namespace {

// The baseline first.
std::vector<engine::Arm> Arms(const std::string& choice) {
  if (choice == "baseline") return {engine::Arm::kBaseline};
  if (choice == "recycled") return {engine::Arm::kRecycled};
  return {engine::Arm::kBaseline, engine::Arm::kRecycled};
}

// The prompt with its reply becomes an entry. Where the prompt's beginning was cut off, what the
// model has read is no text's tokens, and is stored as tokens alone.
engine::SaveResult SaveReply(engine::Generator& generator, const RunResult& result) {
  const engine::Prompt& prompt = result.prompt;
  const Tokens& reply = result.arms.back().cell.tokens;
  if (prompt.truncated_tokens > 0) {
    Tokens tokens = prompt.tokens;
    tokens.insert(tokens.end(), reply.begin(), reply.end());
    return generator.Save(std::move(tokens), result.codec);
  }
  const std::string text = prompt.text + generator.tokenizer().Decode(reply);
  return generator.Save(Sanitize(text, "the reply"), result.codec);
}

}  // namespace

PromptRunner::PromptRunner(const RunOptions& options, engine::Generator& generator)
    : options_(options), generator_(generator), arms_(Arms(options.arm)) {
  if (Uses(engine::Arm::kRecycled) || options.save) OpenCache();
  generator.WarmUp();
}

bool PromptRunner::Uses(engine::Arm arm) const {
  return std::find(arms_.begin(), arms_.end(), arm) != arms_.end();
}

void PromptRunner::OpenCache() {
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

engine::Request PromptRunner::MakeRequest(const engine::Prompt& prompt, engine::Arm arm,
                                          const cache::View* view) const {
  engine::Request request;
  request.text = prompt.text;
  request.tokens = prompt.tokens;
  request.arm = arm;
  request.reuse = {
      .policy = view != nullptr ? engine::PolicyFromString(options_.policy) : engine::Policy::kOff,
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

RunResult PromptRunner::Run(const BatchLine& line, const Generate& generate) {
  RunResult result{.id = line.id, .codec = options_.model.codec};
  result.prompt = engine::PreparePrompt(generator_, Sanitize(line.text, "prompt " + line.id),
                                        options_.chat_template == "chat",
                                        options_.truncate == "left", options_.max_new_tokens);
  if (result.prompt.truncated_tokens > 0) {
    spdlog::warn("prompt {}: its first {} tokens were cut to fit the context", line.id,
                 result.prompt.truncated_tokens);
  }
  std::optional<cache::View> view;
  if (Uses(engine::Arm::kRecycled) && Store() != nullptr) view = Store()->MakeView();

  std::vector<engine::Request> requests;
  for (const engine::Arm arm : arms_) {
    requests.push_back(MakeRequest(result.prompt, arm, view ? &*view : nullptr));
  }
  if (requests.size() > 1) {
    // Once unmeasured: libtorch makes code for each new number of rows, at the cost of whoever
    // comes first.
    for (engine::Request request : requests) {
      request.max_new_tokens = 1;
      (void)generator_.Generate(request);
    }
  }
  std::vector<engine::Generation> generations;
  for (const engine::Request& request : requests) {
    ThrowIfInterrupted();
    engine::Generation& generation = generations.emplace_back(generate(request));
    const bool recycled = request.arm == engine::Arm::kRecycled;
    if (recycled && Store() == nullptr && options_.policy != "off") {
      // There was no cache to look in: a miss, like one where a block can't be read.
      generation.outcome = engine::Outcome::kMiss;
      generation.limited_by = cache::LimitedBy::kUnreadable;
    }
    RunResult::Arm& arm = result.arms.emplace_back();
    arm.cell.arm = engine::ToString(request.arm);
    arm.ended = generation.ended;
    experiment::Describe(generator_, request, generation, &arm.cell);
  }
  if (generations.size() == 2) {
    result.fidelity = experiment::MeasureFidelity(generator_, requests[1], generations[0],
                                                  generations[1], /*semantic=*/true);
  }
  return result;
}

void PromptRunner::Save(RunResult* result) {
  result->save_asked = true;
  std::string why = "the cache is not open for writing";
  if (Store() != nullptr && !Store()->read_only()) {
    try {
      result->saved = SaveReply(generator_, *result);
      return;
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
}

}  // namespace kvr::cli

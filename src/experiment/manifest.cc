#include "kvr/experiment/manifest.h"

#include <algorithm>
#include <numeric>

#include "kvr/experiment/prompts.h"
#include "kvr/model/archive.h"
#include "kvr/model/runtime.h"

namespace kvr::experiment {
namespace {

ManifestModel ReadModel(const Config& config, const ModelChoice& choice) {
  const model::ArchiveInfo info = model::ReadArchiveInfo(choice.path, "language_model");
  const Prompts prompts = LongestPrompts(config, info);
  ManifestModel model{.path = choice.path,
                      .name = info.name,
                      .precision = info.precision,
                      .fingerprint = info.fingerprint};
  for (const TestedTokens& prompt : prompts.test) {
    model.limits.push_back(prompt.limit);
    model.prompt_tokens.push_back(std::ssize(prompt.tokens));
  }
  for (const CachedTokens& cached : prompts.cached) {
    model.cached_tokens += std::ssize(cached.tokens);
  }
  return model;
}

// New tokens of the step, at most: as the engine's executor asks for them.
int LimitOf(const Config& config, const ManifestModel& model, const Step& step) {
  return step.plan.goes_on || !config.long_prompts ? model.limits[step.prompt]
                                                   : config.marks.front();
}

// Calls `add`(shard, prompt, new tokens) with every cell of one model.
template <typename Add>
void ForEachCell(const Config& config, const std::vector<int>& shard_of, const ManifestModel& model,
                 const Add& add) {
  for (int round = 0; round < config.repetitions; ++round) {
    for (const Step& step : RoundOf(config, false, round)) {
      add(static_cast<std::size_t>(shard_of[step.prompt]), step.prompt,
          LimitOf(config, model, step));
    }
  }
}

std::vector<int> ShardOfPrompts(const Config& config, const std::vector<Unit>& units) {
  std::vector<int> shards(config.test_prompts.size());
  for (const Unit& unit : units) {
    for (const std::size_t prompt : unit.prompts) shards[prompt] = unit.shard;
  }
  return shards;
}

Speed Measure(const Config& config, const ManifestModel& model,
              const std::function<void(const std::string&)>& progress) {
  constexpr int kNewTokens = 17;  // the first comes with the prefill
  progress("loading " + model.path);
  engine::Generator generator(
      {.model = model.path,
       .language_model = {.block_tokens = config.block_tokens, .device = config.device}});
  const Prompts prompts = LongestPrompts(config, generator.info());
  std::vector<std::size_t> by_length(prompts.test.size());
  std::iota(by_length.begin(), by_length.end(), std::size_t{0});
  const auto middle = by_length.begin() + std::ssize(by_length) / 2;
  std::nth_element(by_length.begin(), middle, by_length.end(), [&](auto a, auto b) {
    return prompts.test[a].tokens.size() < prompts.test[b].tokens.size();
  });
  engine::Request request;
  request.text = prompts.test[*middle].text;
  request.tokens = prompts.test[*middle].tokens;
  const int tokens = static_cast<int>(request.tokens.size());
  request.max_new_tokens = std::min(kNewTokens, generator.info().context_tokens - tokens);
  request.stop_at_eos = false;
  progress("timing " + model.name);
  (void)generator.Generate(request);
  const engine::Timings timings = generator.Generate(request).timings;
  Speed speed{.prefill_ms_per_token = timings.prefill_ms / tokens,
              .prefilled_tokens = tokens,
              .decoded_tokens = request.max_new_tokens - 1};
  if (speed.decoded_tokens > 0) {
    speed.decode_ms_per_token = timings.decode_ms / speed.decoded_tokens;
  }
  return speed;
}

}  // namespace

Manifest MakeManifest(const Config& config, int shards) {
  Manifest manifest{.units = UnitsOf(config, shards),
                    .shards = std::vector<ManifestShard>(static_cast<std::size_t>(shards))};
  for (const ModelChoice& choice : config.models) {
    manifest.models.push_back(ReadModel(config, choice));
  }
  for (const Unit& unit : manifest.units) {
    ManifestShard& shard = manifest.shards[static_cast<std::size_t>(unit.shard)];
    ++shard.units;
    shard.prompts += std::ssize(unit.prompts);
  }
  const std::vector<int> shard_of = ShardOfPrompts(config, manifest.units);
  for (const ManifestModel& model : manifest.models) {
    ForEachCell(config, shard_of, model, [&](std::size_t index, std::size_t prompt, int limit) {
      ManifestShard& shard = manifest.shards[index];
      ++shard.cells;
      shard.prompt_tokens += model.prompt_tokens[prompt];
      shard.new_tokens += limit;
    });
  }
  return manifest;
}

void Estimate(const Config& config, const std::function<void(const std::string&)>& progress,
              Manifest* manifest) {
  model::SetUpRuntime(config.threads);
  const std::vector<int> shard_of = ShardOfPrompts(config, manifest->units);
  std::vector<double> ms(manifest->shards.size());
  for (ManifestModel& model : manifest->models) {
    const Speed speed = model.speed.emplace(Measure(config, model, progress));
    const auto run_ms = [&](std::size_t prompt, int new_tokens) {
      return static_cast<double>(model.prompt_tokens[prompt]) * speed.prefill_ms_per_token +
             (new_tokens - 1) * speed.decode_ms_per_token;
    };
    ForEachCell(config, shard_of, model, [&](std::size_t shard, std::size_t prompt, int limit) {
      ms[shard] += run_ms(prompt, limit);
    });
    const int references = config.sampling.temperature > 0 ? config.repetitions : 1;
    for (std::size_t prompt = 0; prompt < shard_of.size(); ++prompt) {
      ms[static_cast<std::size_t>(shard_of[prompt])] +=
          references * run_ms(prompt, model.limits[prompt]);
    }
    for (std::size_t shard = 0; shard < ms.size(); ++shard) {
      if (manifest->shards[shard].cells == 0) continue;
      ms[shard] += static_cast<double>(model.cached_tokens) *
                   static_cast<double>(config.codecs.size()) * speed.prefill_ms_per_token;
    }
  }
  for (std::size_t shard = 0; shard < ms.size(); ++shard) {
    manifest->shards[shard].seconds = ms[shard] / 1000;
  }
}

Json ToJson(const Config& config, const Manifest& manifest) {
  Json models = Json::array(), units = Json::array(), shards = Json::array();
  for (const ManifestModel& model : manifest.models) {
    Json speed;
    if (model.speed) {
      speed = {{"prefill_ms_per_token", model.speed->prefill_ms_per_token},
               {"decode_ms_per_token", model.speed->decode_ms_per_token},
               {"prefilled_tokens", model.speed->prefilled_tokens},
               {"decoded_tokens", model.speed->decoded_tokens}};
    }
    models.push_back({{"name", model.name},
                      {"precision", model.precision},
                      {"fingerprint", model.fingerprint},
                      {"cached_tokens", model.cached_tokens},
                      {"measured_here", speed}});
  }
  for (const Unit& unit : manifest.units) {
    Json prompts = Json::array();
    for (const std::size_t prompt : unit.prompts) {
      Json tokens = Json::array();  // by model
      for (const ManifestModel& model : manifest.models) {
        tokens.push_back(model.prompt_tokens[prompt]);
      }
      prompts.push_back({{"id", config.test_prompts[prompt].id}, {"tokens", tokens}});
    }
    units.push_back({{"name", unit.name}, {"shard", unit.shard}, {"prompts", prompts}});
  }
  for (std::size_t index = 0; index < manifest.shards.size(); ++index) {
    const ManifestShard& shard = manifest.shards[index];
    shards.push_back({{"index", index},
                      {"units", shard.units},
                      {"prompts", shard.prompts},
                      {"cells", shard.cells},
                      {"prompt_tokens", shard.prompt_tokens},
                      {"new_tokens", shard.new_tokens},
                      {"estimated_s", shard.seconds ? Json(*shard.seconds) : Json(nullptr)}});
  }
  return {{"name", config.name},
          {"prompts_sha256", PromptsDigest(config)},
          {"models", models},
          {"units", units},
          {"shards", shards}};
}

}  // namespace kvr::experiment

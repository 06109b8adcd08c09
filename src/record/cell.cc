#include "kvr/record/cell.h"

#include <spdlog/fmt/fmt.h>

#include <array>

#include "fields.h"

namespace kvr::record {
namespace {

constexpr auto kArms = std::to_array<std::string_view>({"baseline", "recycled"});
constexpr auto kPageCache = std::to_array<std::string_view>({"warm", "cold"});
constexpr auto kOutcomes = std::to_array<std::string_view>({"hit", "miss", "off"});

}  // namespace

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Work>
void List(const Fields& field, T& work) {
  field("prefilled_tokens", work.prefilled_tokens, "of the prompt: computed, not restored");
  field("forward_passes", work.forward_passes,
        "of the language model: a chunk of prefill or a decoded token each");
  field("restored_blocks", work.restored_blocks, "read from the cache, a tail included");
  field("compared_entries", work.compared_entries,
        "candidates compared with the prompt token by token; 0 under policy `prefix`, which walks "
        "hashes");
  field("opened_files", work.opened_files, "of the cache, to restore from");
}

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Fidelity>
void List(const Fields& field, T& fidelity) {
  field("exact", fidelity.exact, "all compared logits and all tokens are equal bit for bit");
  field("compared_tokens", fidelity.compared_tokens, "steps compared; null when not counted");
  field("first_divergence", fidelity.first_divergence,
        "index of the first new token that differs; null when none does");
  field("max_abs_logit_diff", fidelity.max_abs_logit_diff,
        "greatest absolute difference of any logit");
  field("kl_mean", fidelity.kl_mean,
        "Kullback-Leibler divergence in nats per step, teacher-forced along the baseline's tokens");
  field("kl_max", fidelity.kl_max, "the greatest of these");
  field("top1", fidelity.top1, "share of steps with the same most likely token");
  field("cosine", fidelity.cosine, "of the two texts' embeddings");
  field("rouge_l", fidelity.rouge_l, "ROUGE-L's F-measure; null for two texts without words");
  field("semantic", fidelity.semantic,
        "`measured`; or why `cosine` and `rouge_l` say nothing: `random weights`, `empty replies` "
        "(both), `first token only`");
}

namespace {

// What the cell is.
template <typename Fields, typename T>
void ListIdentity(const Fields& field, T& cell) {
  field("model", cell.model, "as in `models`");
  field("precision", cell.precision, "as in `models`");
  field("workload", cell.workload, "the prompt's group");
  field("prompt_id", cell.prompt_id, "the prompt's name");
  field("repetition", cell.repetition, "from 0");
  field("arm", cell.arm, "`baseline` or `recycled`", OneOf{kArms});
  field("schedule", cell.schedule,
        "`block`: prefill as recycling needs it, in blocks or, where the probe holds, in longer "
        "chunks; `free`: without the schedule, in chunks of the best length. Baselines and the "
        "null variant have the schedule of `models[].baseline`",
        OneOf{kSchedules});
  field("control", cell.control,
        "true: the baseline a second time, compared with the first: the baseline-against-baseline "
        "line");
  field("policy", cell.policy,
        "how entries are found, or `off`. A recycled cell with `off` is the null variant: the "
        "baseline's work sent through the recycled arm, whose speedup must read 1");
  field("match", cell.match, "`whole`, `token`, `block`; null with policy `off`");
  field("codec", cell.codec,
        "of the cache: `fp32`, `bf16`, `fp16`, `int8`; null with policy `off`, and in runs from "
        "before there were others than `fp32`");
  field("candidates", cell.candidates,
        "entries that policy `embedding` looked at; null with others (2)");
  field("asked_page_cache", cell.asked_page_cache,
        "`cold`: the files were dropped from the page cache before the restore, else `warm`; null "
        "with policy `off`, and in runs from before (2). Policy, match, codec, candidates and this "
        "tell ways of reuse apart",
        OneOf{kPageCache});
  field("seed", cell.seed,
        "of the repetition's sampling: the config's and the repetition; null when greedy (2)");
  field("cached_parent", cell.cached_parent,
        "the cached prompt that shares the longest token prefix with this one, the first of "
        "several; null where none shares a token, or under a chat template none more than its "
        "opening (2)");
  field("session", cell.session,
        "the conversation or trace session that the prompt is a turn of; null where there is none. "
        "Prompts of one session, or else of one cached parent, are not independent (2)");
  field("turn", cell.turn, "its place there, from 1 (2)");
  field("history_tokens", cell.history_tokens,
        "the prompt's tokens ahead of its own turn: the conversation so far, or the document; null "
        "where the workload says nothing of it (2)");
}

// What became of it.
template <typename Fields, typename T>
void ListOutcome(const Fields& field, T& cell) {
  field("outcome", cell.outcome, "`hit` (depth above 0), `miss`, `off` (baselines)",
        OneOf{kOutcomes});
  field("limited_by", cell.limited_by,
        "why the depth is not larger (`end_of_entry`, `diverged`, `block_edge`, `last_token`, "
        "`no_candidate`, `not_prefix`, `token_boundary`, `below_minimum`, `evicted`, `corrupt`, "
        "`unreadable`); null where there was nothing to limit");
  field("exact_claimed", cell.exact_claimed,
        "whether the program promised, before it ran, the baseline's bits; never for a hit from a "
        "lossy codec");
  field("prompt_tokens", cell.prompt_tokens, "tokens of the prompt as run");
  field("reuse_depth", cell.reuse_depth, "tokens whose keys and values were restored");
  field("expected_depth", cell.expected_depth,
        "the depth that the workload's own arithmetic says, of recycled cells with policy `prefix` "
        "and match `token` or `block`; null where it says nothing. Another `reuse_depth` is an "
        "alarm (2)");
  field("available_depth", cell.available_depth,
        "the longest token prefix of the prompt that the cache held, whatever the match rule; null "
        "when not known");
  field("similarity", cell.similarity,
        "cosine of the prompt's embedding and that of the entry that was used or, on a miss, of "
        "the nearest candidate (version 1: of the one with most tokens in common); null without "
        "the embedding policy, or a candidate");
  field("entry", cell.entry, "name of the entry that was used; null on a miss");
  field("page_cache", cell.page_cache,
        "`warm` or `cold`, by whether most of the files' pages were in memory before the restore, "
        "asked by a sample of sixteen pages a file (what a cold cell drops is the files' data; "
        "their names and sizes stay in memory; of files that the user neither owns nor may write, "
        "Linux calls all pages resident); null on a miss, and where the system can't tell");
  field("restored_bytes", cell.restored_bytes, "bytes read; null for baselines");
  field("work", cell.work,
        "what was done, equal on every machine: an object, below; null in runs from before (2)");
  field("peak_memory_bytes", cell.peak_memory_bytes,
        "the most memory that the process had meanwhile (`VmHWM`); null where the system can't "
        "tell (2)");
}

template <typename Fields, typename T>
void ListTimes(const Fields& field, T& cell) {
  field("embed_ms", cell.embed_ms,
        "the prompt's embedding; null for baselines and under other policies", NotNegative{});
  field("lookup_ms", cell.lookup_ms, "finding and verifying the entry; null for baselines",
        NotNegative{});
  field("restore_ms", cell.restore_ms,
        "reading, checking and, for lossy codecs, decoding its blocks; null where there was "
        "nothing to restore",
        NotNegative{});
  field("prefill_ms", cell.prefill_ms, "computing what was not restored", NotNegative{});
  field("ttft_ms", cell.ttft_ms, "from token ids to the first new token, all of the above included",
        NotNegative{});
  field("decode_ms", cell.decode_ms, "the further tokens; null where `full` is false",
        NotNegative{});
  field("total_ms", cell.total_ms, "the sum; null where `full` is false", NotNegative{});
  field("totals_ms", cell.totals_ms,
        "the time until so many new tokens were there, for each mark of `max_new_tokens` that the "
        "cell reached: `{\"16\": 231.2}` (2)");
  field("wall_ms", cell.wall_ms,
        "the whole cell, from its request to its last token, with what is on no arm's clock (2)",
        NotNegative{});
  field("other_cpu_ms", cell.other_cpu_ms,
        "meanwhile, CPU time of all other processes over all CPUs (`/proc/stat`, which counts in "
        "ticks of some 10 ms; less our own `getrusage`); null where the system can't tell (2)",
        NotNegative{});
  field("steal_ms", cell.steal_ms, "meanwhile, what the hypervisor gave to others; likewise (2)",
        NotNegative{});
}

}  // namespace

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Cell>
void List(const Fields& field, T& cell) {
  ListIdentity(field, cell);
  ListOutcome(field, cell);
  ListTimes(field, cell);
  field("new_tokens", cell.new_tokens, "how many tokens were generated");
  field("full", cell.full, "false: the cell stopped at the first token (version 1 only)");
  field("tokens", cell.tokens, "the new tokens");
  field("text", cell.text, "the same as text");
  field("truncated_tokens", cell.truncated_tokens,
        "tokens cut off before the prompt ran, to make it fit");
  field("fidelity", cell.fidelity,
        "an object, below; null for whatever was not compared, which is a free baseline where the "
        "probe does not hold");
}

std::optional<double> Cell::DecodeMsPerToken() const {
  if (!decode_ms || new_tokens < 2) return std::nullopt;
  return *decode_ms / static_cast<double>(new_tokens - 1);
}

std::string ClusterOf(const Cell& cell) {
  if (cell.session) return "session " + *cell.session;
  if (cell.cached_parent) return "parent " + *cell.cached_parent;
  return "own " + cell.prompt_id;
}

std::string Identity(const Cell& cell) {
  return cell.model + "\n" + cell.precision + "\n" + cell.prompt_id + "\n" +
         std::to_string(cell.repetition) + "\n" + cell.arm + "\n" + cell.schedule + "\n" +
         (cell.control ? "control" : "") + "\n" + cell.policy + "\n" + cell.match.value_or("") +
         "\n" + cell.codec.value_or("") + "\n" +
         (cell.candidates ? std::to_string(*cell.candidates) : "") + "\n" +
         cell.asked_page_cache.value_or("");
}

Json ToJson(const Fidelity& fidelity) {
  Json json = Json::object();
  List(Writer(json), fidelity);
  return json;
}

Json ToJson(const Cell& cell) {
  Json json = {{"schema", kResultsSchema}};
  List(Writer(json), cell);
  return json;
}

Cell CellFromJson(const Json& json, const std::string& where) {
  const Reader field(json, where);
  field.Schema();
  Cell cell;
  List(field, cell);
  if (cell.reuse_depth > 0 && cell.reuse_depth >= cell.prompt_tokens) {
    field.Fail(fmt::format("reuse_depth {} of a prompt of {} tokens, expected at least one less",
                           cell.reuse_depth, cell.prompt_tokens));
  }
  if (cell.hit() != (cell.reuse_depth > 0)) {
    field.Fail(fmt::format("outcome \"{}\" with reuse_depth {}", cell.outcome, cell.reuse_depth));
  }
  for (const auto& [count, ms] : cell.totals_ms.value_or(std::map<std::int64_t, double>())) {
    if (ms < 0 || count > cell.new_tokens) {
      field.Fail(fmt::format("totals_ms of {} ms for {} of {} tokens", ms, count, cell.new_tokens));
    }
  }
  return cell;
}

std::string DocumentCell() { return DocumentOf<Cell>("| `schema` | integer | 2 |\n"); }
std::string DocumentWork() { return DocumentOf<Work>(); }
std::string DocumentFidelity() { return DocumentOf<Fidelity>(); }

}  // namespace kvr::record

#include "kvr/record/lookup.h"

#include <spdlog/fmt/fmt.h>

#include <set>

#include "fields.h"
#include "kvr/record/run.h"
#include "lines.h"

namespace kvr::record {

template <typename Fields, typename T>
requires std::is_same_v<std::remove_const_t<T>, Lookup>
void List(const Fields& field, T& lookup) {
  field("model", lookup.model, "as in `models`: whose tokens are compared");
  field("precision", lookup.precision, "as in `models`");
  field("workload", lookup.workload,
        "what the cache has of the query (`docs/config_format.md`): `extends`, `lengths`, "
        "`diverges`, `forks`, `shifted`, `unrelated`");
  field("control", lookup.control, "true: it has nothing, but for tokens shared by chance");
  field("prompt_id", lookup.prompt_id, "the query's name");
  field("repetition", lookup.repetition, "from 0; only times differ");
  field("policy", lookup.policy, "how entries are found");
  field("match", lookup.match, "`whole`, `token`, `block`");
  field("candidates", lookup.candidates,
        "entries that policy `embedding` looked at; null with others");
  field("distractors", lookup.distractors, "entries that have nothing to do with any query");
  field("entries", lookup.entries, "those, and what the cache has of all queries");
  field("prompt_tokens", lookup.prompt_tokens, "tokens of the query");
  field("pieces", lookup.pieces,
        "word pieces of the query, as the encoder counts them: its two marks included");
  field("pieces_embedded", lookup.pieces_embedded, "of them, those that the encoder has room for");
  field("available_depth", lookup.available_depth,
        "the greatest depth that the match rule allows with any entry, by comparing the query "
        "with each of them token by token");
  field("reuse_depth", lookup.reuse_depth, "that the policy found; nothing is restored");
  field("limited_by", lookup.limited_by, "why it is not larger, as in a cell");
  field("similarity", lookup.similarity,
        "cosine of the query's embedding and the nearest entry's; null without the embedding "
        "policy, or a candidate");
  field("rank", lookup.rank,
        "place in the order of similarity, from 1, of the first entry that gives "
        "`available_depth`: so many candidates would have found it all; null without the embedding "
        "policy, where there is nothing to find, and where no such entry is similar enough");
  field("embed_ms", lookup.embed_ms,
        "the query's embedding, once for all policies of a repetition; null under policies without",
        NotNegative{});
  field("lookup_ms", lookup.lookup_ms, "finding and verifying the entry", NotNegative{});
}

std::string Identity(const Lookup& lookup) {
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", lookup.model, lookup.precision,
                     lookup.prompt_id, lookup.repetition, lookup.policy, lookup.match,
                     lookup.candidates ? std::to_string(*lookup.candidates) : "",
                     lookup.distractors);
}

Json ToJson(const Lookup& lookup) {
  Json json = {{"schema", kResultsSchema}};
  List(Writer(json), lookup);
  return json;
}

Lookup LookupFromJson(const Json& json, const std::string& where) {
  const Reader field(json, where);
  field.Schema();
  Lookup lookup;
  List(field, lookup);
  if (lookup.reuse_depth > lookup.available_depth) {
    field.Fail(fmt::format("reuse_depth {} of an available_depth of {}, expected no more",
                           lookup.reuse_depth, lookup.available_depth));
  }
  if (lookup.available_depth > 0 && lookup.available_depth >= lookup.prompt_tokens) {
    field.Fail(fmt::format("available_depth {} of a query of {} tokens, expected at least one less",
                           lookup.available_depth, lookup.prompt_tokens));
  }
  return lookup;
}

void ReadLookups(const std::filesystem::path& path, Run* run) {
  if (!std::filesystem::exists(path)) return;
  std::set<std::string> models, seen;
  const std::set<std::string> prompts(run->prompts.begin(), run->prompts.end());
  for (const ModelInfo& model : run->models) models.insert(model.name + "\n" + model.precision);
  std::string first;
  std::int64_t left_out = 0;
  ForEachLine(path, "look-up", &run->warnings,
              [&](const Json& json, const std::string& where, std::size_t) {
                Lookup lookup = LookupFromJson(json, where);
                const bool ours = models.contains(lookup.model + "\n" + lookup.precision) &&
                                  prompts.contains(lookup.prompt_id);
                if (ours && seen.insert(Identity(lookup)).second) {
                  run->lookups.push_back(std::move(lookup));
                } else if (left_out++ == 0) {
                  first = where;
                }
              });
  if (left_out == 0) return;
  run->warnings.push_back(fmt::format(
      "{} look-ups repeat an earlier line's, or are of a model or query that the run does not "
      "have, and were left out; the first: {}",
      left_out, first));
}

std::string DocumentLookup() { return DocumentOf<Lookup>("| `schema` | integer | 2 |\n"); }

}  // namespace kvr::record

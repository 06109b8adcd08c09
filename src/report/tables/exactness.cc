#include "table_of.h"
#include "tables.h"

namespace kvr::report {
namespace {

struct ExactnessRow : VariantRow {
  Cells cells = AllRecycledBy(Pointers(scope.prompts), variant);
  Cells hits = Only(cells, IsHit);
  Cells compared = Only(hits, IsCompared);
};

Value Probe(const ExactnessRow& row) {
  if (!row.scope.info || !row.scope.info->probe_exact) return {};
  const bool exact = *row.scope.info->probe_exact;
  return {exact ? "exact" : "not exact", exact};
}

}  // namespace

Table ExactnessTable(const std::vector<Scope>& scopes) {
  TableOf<ExactnessRow> table(
      "Exactness of hits by match rule",
      "exact: hits out of the hits that were compared with the baseline to their last token, and "
      "of those compared at the first token only; logit diff 0 and same tokens: of both. claimed: "
      "hits that the run called exact beforehand. claims broken: cells, "
      "hits or not, called exact that were not. probe: whether cutting a block anywhere left "
      "its rows unchanged at start-up, on that machine with that model.");
  table.HowReused()
      .Right("cells", [](const ExactnessRow& row) { return Count(std::ssize(row.cells)); })
      .Right("hits", [](const ExactnessRow& row) { return Count(std::ssize(row.hits)); })
      .Right("hits_claimed_exact", "claimed",
             [](const ExactnessRow& row) {
               return Count(CountIf(row.hits, [](const Cell& c) { return c.exact_claimed; }));
             })
      .Right("exact_share", "exact to the end",
             [](const ExactnessRow& row) {
               return RateOf(Only(row.hits, IsComparedToTheEnd), IsExact);
             })
      .Right("exact_share_at_first", "at first only",
             [](const ExactnessRow& row) {
               return RateOf(Only(row.hits, IsComparedAtFirst), IsExact);
             })
      .Right("zero_difference_share", "logit diff 0",
             [](const ExactnessRow& row) { return RateOf(row.compared, HasZeroDifference); })
      .Right("same_tokens_share", "same tokens",
             [](const ExactnessRow& row) { return RateOf(row.compared, HasSameTokens); })
      .Right("claims_broken",
             [](const ExactnessRow& row) { return Count(CountIf(row.cells, BreaksItsClaim)); })
      .Left("probe_exact", "probe", Probe);
  ForEachVariant(scopes, [&](const Scope& scope, const Variant& variant) {
    table.Add({{{scope}, variant}});
  });
  return table.Finish();
}

}  // namespace kvr::report

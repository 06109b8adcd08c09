#include <map>
#include <set>

#include "table_of.h"
#include "tables.h"

namespace kvr::report {

Table LimitsTable(const std::vector<Scope>& scopes) {
  using Reason = std::pair<std::string, std::optional<std::string>>;  // outcome, what limited it
  struct Counts {
    std::int64_t cells = 0, prompts = 0;
  };
  struct Row : VariantRow {
    const Reason& reason;
    Counts counts;
  };
  TableOf<Row> table("Misses and limits",
                     "Recycled cells by outcome and by the reason why the depth was not larger.");
  table.HowReused()
      .Left("outcome", [](const Row& row) { return Text(row.reason.first); })
      .Left("limited_by", [](const Row& row) { return Text(row.reason.second); })
      .Right("cells", [](const Row& row) { return Count(row.counts.cells); })
      .Right("prompts", [](const Row& row) { return Count(row.counts.prompts); });
  ForEachVariant(scopes, [&](const Scope& scope, const Variant& variant) {
    std::map<Reason, Counts> counts;
    for (const PromptCells& prompt : scope.prompts) {
      std::set<Reason> seen;
      for (const Cell* cell : RecycledBy(prompt, variant)) {
        const Reason reason{cell->outcome, cell->limited_by};
        ++counts[reason].cells;
        if (seen.insert(reason).second) ++counts[reason].prompts;
      }
    }
    for (const auto& [reason, count] : counts) table.Add({{{scope}, variant}, reason, count});
  });
  return table.Finish();
}

}  // namespace kvr::report

// How a table is written down: its columns, each with its key, head, alignment and the function
// that computes it from a row's data, and then its rows.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../samples.h"
#include "../values.h"
#include "kvr/record/holm.h"
#include "kvr/report/report.h"

namespace kvr::report {

// Every row is about one scope; that of a variant has it, and the cells that the variant made.
struct ScopeRow {
  const Scope& scope;
};
struct VariantRow : ScopeRow {
  const Variant& variant;
};

// `Row` derives from one of these. A `Get` is a member of Row, or a function of one.
template <typename Row>
class TableOf {
 public:
  // Begins with the columns run, model and precision.
  TableOf(std::string title, std::string note) {
    table_.title = std::move(title);
    table_.note = std::move(note);
    Left("run", [](const Row& row) { return Text(row.scope.run->label); });
    Left("model", [](const Row& row) { return Text(row.scope.model); });
    Left("precision", "prec.", [](const Row& row) { return Text(row.scope.precision); });
  }

  // Words are aligned left, numbers right. The head is the key unless given.
  template <typename Get>
  TableOf& Left(const char* key, const char* head, Get get) {
    return Column(key, head, false, std::move(get));
  }
  template <typename Get>
  TableOf& Right(const char* key, const char* head, Get get) {
    return Column(key, head, true, std::move(get));
  }
  template <typename Get>
  TableOf& Left(const char* key, Get get) {
    return Column(key, Spaced(key), false, std::move(get));
  }
  template <typename Get>
  TableOf& Right(const char* key, Get get) {
    return Column(key, Spaced(key), true, std::move(get));
  }

  TableOf& Policy() {
    return Left("policy", [](const Row& row) { return Text(row.variant.policy); });
  }
  TableOf& Match() {
    return Left("match", [](const Row& row) { return Text(row.variant.match); });
  }
  TableOf& Candidates() {
    return Left("candidates", "cand.", [](const Row& row) {
      return row.variant.candidates ? Count(*row.variant.candidates) : Value{};
    });
  }
  TableOf& Codec() {
    return Left("codec", [](const Row& row) {
      return row.variant.codec.empty() ? Value{} : Text(row.variant.codec);
    });
  }
  TableOf& PageCache() {
    return Left("asked_page_cache", "pages", [](const Row& row) {
      return row.variant.page_cache.empty() ? Value{} : Text(row.variant.page_cache);
    });
  }
  TableOf& HowReused() { return Policy().Match().Candidates().Codec().PageCache(); }

  // An estimate's ratio, and the ends of its 95 % interval: KEY, KEY_low, KEY_high.
  template <typename Get>
  TableOf& Interval(const std::string& key, const std::string& head, Get get) {
    const auto end = [get](double record::Interval::*which) {
      return [get, which](const Row& row) -> Value {
        const std::optional<Estimate> estimate = std::invoke(get, row);
        const auto interval = estimate ? estimate->RatioInterval() : std::nullopt;
        return interval ? Times((*interval).*which) : Value{};
      };
    };
    Column(key, head, true, [get](const Row& row) { return Ratio(std::invoke(get, row)); });
    Column(key + "_low", "low", true, end(&record::Interval::low));
    return Column(key + "_high", "high", true, end(&record::Interval::high));
  }

  // The p-value of an estimate's ratio against 1, adjusted over all rows of the table: KEY_p_holm.
  template <typename Get>
  TableOf& PHolm(const std::string& key, Get get) {
    p_columns_.push_back(table_.columns.size());
    return Column(key + "_p_holm", "p (Holm)", true, [get](const Row& row) -> Value {
      const std::optional<Estimate> estimate = std::invoke(get, row);
      return PValueOf(estimate ? PValue(*estimate) : std::nullopt);
    });
  }

  // How far an estimate of theirs over the baseline's is from 1, and what the test of equivalence
  // says of it: FIRST, KEY_low, KEY_high, KEY_p_holm, KEY_verdict, KEY_detectable, KEY_power_at_5.
  // "differs" is said where it holds for the whole table, by the adjusted p-value.
  template <typename Get>
  TableOf& Difference(const std::string& first, const std::string& key, const char* head, Get get) {
    const auto of_test = [get](auto value) {
      return [get, value](const Row& row) -> Value {
        const std::optional<Estimate> estimate = std::invoke(get, row);
        const auto test = estimate ? TestEquivalence(*estimate, row.scope.Margin()) : std::nullopt;
        return test ? value(*test) : Value{};
      };
    };
    Column(first, head, true, [get](const Row& row) -> Value {
      const std::optional<Estimate> estimate = std::invoke(get, row);
      return estimate ? SignedPercent(estimate->ratio() - 1) : Value{};
    });
    Column(key + "_low", "low", true,
           of_test([](const Equivalence& test) { return SignedPercent(test.interval.low - 1); }));
    Column(key + "_high", "high", true,
           of_test([](const Equivalence& test) { return SignedPercent(test.interval.high - 1); }));
    PHolm(key, get);
    verdict_of_[table_.columns.size() - 1] = table_.columns.size();
    Column(key + "_verdict", "verdict", false,
           of_test([](const Equivalence& test) { return Text(ToString(test.verdict)); }));
    Column(key + "_detectable", "could see", true,
           of_test([](const Equivalence& test) { return Percent(test.detectable); }));
    return Column(key + "_power_at_5", "power at 5 %", true,
                  of_test([](const Equivalence& test) { return Percent(test.power_at_5); }));
  }

  void Add(const Row& row) {
    std::vector<Value>& values = table_.rows.emplace_back();
    for (const auto& get : columns_) values.push_back(get(row));
  }
  Table Finish() {
    for (const std::size_t column : p_columns_) AdjustColumn(column);
    return std::move(table_);
  }

 private:
  void AdjustColumn(std::size_t column) {
    std::vector<std::vector<Value>*> rows;
    std::vector<double> p_values;
    for (std::vector<Value>& row : table_.rows) {
      if (row[column].raw.is_null()) continue;
      rows.push_back(&row);
      p_values.push_back(row[column].raw.template get<double>());
    }
    const std::vector<double> adjusted = HolmAdjusted(p_values);
    const auto verdict = verdict_of_.find(column);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      (*rows[i])[column] = PValueOf(adjusted[i]);
      if (verdict == verdict_of_.end() || adjusted[i] <= kLevel) continue;
      Value& said = (*rows[i])[verdict->second];
      if (said.raw == ToString(Verdict::kDiffers)) said = Text(ToString(Verdict::kUndecided));
    }
  }

  static std::string Spaced(std::string key) {
    std::replace(key.begin(), key.end(), '_', ' ');
    return key;
  }
  template <typename Get>
  TableOf& Column(std::string key, std::string head, bool right, Get get) {
    table_.columns.push_back({std::move(key), std::move(head), right});
    columns_.push_back([get = std::move(get)](const Row& row) { return std::invoke(get, row); });
    return *this;
  }

  Table table_;
  std::vector<std::function<Value(const Row&)>> columns_;
  std::vector<std::size_t> p_columns_;
  std::map<std::size_t, std::size_t> verdict_of_;  // the column of p-values to that of the verdict
};

// Calls `row` with scope, cohort, variant, and with the null variant if so asked, and the cohort's
// cells of that variant, where there are any.
template <typename F>
void ForEachGroup(const std::vector<Scope>& scopes, bool with_null, F row) {
  for (const Scope& scope : scopes) {
    for (const Cohort& cohort : CohortsOf(scope)) {
      for (const Variant& variant : with_null ? scope.NullAndVariants() : scope.variants) {
        const Cells cells = AllRecycledBy(cohort.prompts, variant);
        if (!cells.empty()) row(scope, cohort, variant, cells);
      }
    }
  }
}

// Likewise with scope and each variant.
template <typename F>
void ForEachVariant(const std::vector<Scope>& scopes, F row) {
  for (const Scope& scope : scopes) {
    for (const Variant& variant : scope.variants) row(scope, variant);
  }
}

}  // namespace kvr::report

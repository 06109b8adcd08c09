#include "bench_meter.h"

#include <algorithm>
#include <filesystem>
#include <random>

#include "kvr/base/interrupt.h"
#include "kvr/experiment/environment.h"
#include "kvr/model/machine.h"
#include "kvr/record/statistics.h"

namespace kvr::experiment {

Tokens RandomTokens(const engine::Generator& generator, int count, unsigned seed) {
  std::mt19937 random(seed);
  Tokens tokens(static_cast<std::size_t>(count));
  for (Token& token : tokens) {
    token = static_cast<Token>(random() % static_cast<unsigned>(generator.info().vocab));
  }
  return tokens;
}

cache::View SaveInScratch(engine::Generator& generator, const std::filesystem::path& scratch,
                          const Tokens& tokens) {
  generator.OpenStore(scratch, {});
  const Digest entry = generator.Save(tokens).put.entry;
  return generator.store()->MakeView().Subset({&entry, 1});
}

BenchSetting DescribeSetting(engine::Generator& generator, const BenchOptions& options) {
  return {DescribeEnvironment(), DescribeModel(generator), options.repetitions};
}

Json ToJson(const BenchSetting& setting) {
  return {{"environment", setting.environment},
          {"model", setting.model},
          {"repetitions", setting.repetitions}};
}

BenchMeter::BenchMeter(engine::Generator& bench_generator, const BenchOptions& bench_options)
    : generator(bench_generator), options(bench_options) {
  const model::ArchiveInfo& info = generator.info();
  const model::LanguageModel& network = generator.language_model();
  for (const auto& [out, in] : network.layer_shapes()) {
    layer_parameters_ += static_cast<double>(out * in);
  }
  layer_parameters_ *= info.layers;
  head_parameters_ = static_cast<double>(network.head_shape().first * network.head_shape().second);
  bytes_per_weight_ = info.precision == "fp32"   ? 4
                      : info.precision == "bf16" ? 2
                      : info.precision == "int8"
                          ? 1.25
                          : static_cast<double>(std::filesystem::file_size(info.path)) /
                                static_cast<double>(info.parameters);
  Say("machine limits");
  MeasureBandwidth();
  for (const int rows : kGemmRows) MeasureGemmRate(rows);
}

void BenchMeter::Say(const std::string& what) const {
  ThrowIfInterrupted();
  if (options.progress) options.progress(what);
}

double BenchMeter::Median(const std::function<double()>& work) const {
  std::vector<double> samples;
  for (int i = 0; i < options.repetitions; ++i) {
    ThrowIfInterrupted();
    samples.push_back(work());
  }
  return record::Median(samples).value_or(0);
}

double BenchMeter::MedianBesideLimits(const std::function<double()>& work, int gemm_rows) {
  std::vector<double> read, copy, gemm;
  const double median = Median([&] {
    const double sample = work();
    MeasureBandwidth();
    read.push_back(read_rate_);
    copy.push_back(copy_rate_);
    if (gemm_rows > 0) {
      MeasureGemmRate(gemm_rows);
      gemm.push_back(gemm_rate_);
    }
    return sample;
  });
  read_rate_ = record::Median(read).value_or(read_rate_);
  copy_rate_ = record::Median(copy).value_or(copy_rate_);
  gemm_rate_ = record::Median(gemm).value_or(gemm_rate_);
  return median;
}

void BenchMeter::MeasureBandwidth() {
  read_rate_ = model::MeasureReadBandwidth();
  copy_rate_ = model::MeasureCopyBandwidth();
  limits_.read_gb_per_s.push_back(read_rate_ / 1e9);
  limits_.copy_gb_per_s.push_back(copy_rate_ / 1e9);
}

void BenchMeter::MeasureGemmRate(int rows) {
  gemm_rate_ = model::MeasureGemmRate(generator.language_model().layer_shapes(), rows);
  limits_.gemm_gflop_per_s_by_rows[rows].push_back(gemm_rate_ / 1e9);
}

double BenchMeter::ComputeSeconds(int tokens) const {
  return 2 * layer_parameters_ * tokens / gemm_rate_ +
         bytes_per_weight_ * head_parameters_ / read_rate_;
}

double BenchMeter::WeightSeconds() const {
  return bytes_per_weight_ * (layer_parameters_ + head_parameters_) / read_rate_;
}

}  // namespace kvr::experiment

#include "kvr/experiment/workload.h"

#include <array>

#include "workloads/pairs.h"
#include "workloads/retrieval.h"

namespace kvr::experiment {
namespace {

constexpr std::array kAll = {
    workloads::kPairs,
    workloads::kRetrieval,
};

}  // namespace

constinit const std::span<const Workload> kWorkloads = kAll;

}  // namespace kvr::experiment

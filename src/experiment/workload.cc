#include "kvr/experiment/workload.h"

#include <array>

#include "workloads/context.h"
#include "workloads/control.h"
#include "workloads/conversation.h"
#include "workloads/pairs.h"
#include "workloads/retrieval.h"
#include "workloads/shared_prefix.h"
#include "workloads/trace.h"

namespace kvr::experiment {
namespace {

constexpr std::array kAllWorkloads = {
    workloads::kPairs,   workloads::kConversation, workloads::kSharedPrefix, workloads::kControl,
    workloads::kContext, workloads::kRetrieval,    workloads::kTrace,
};

}  // namespace

constinit const std::span<const Workload> kWorkloads = kAllWorkloads;

}  // namespace kvr::experiment

#include "kvr/model/runtime.h"

#include <ATen/Parallel.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>

#include "kvr/base/cores.h"

namespace kvr::model {

void SetUpRuntime(int threads) {
  at::set_num_threads(ChooseThreads(threads));  // also mkl_set_dynamic(false)
  torch::jit::getProfilingMode() = false;
  torch::jit::getExecutorMode() = false;
  torch::jit::setGraphExecutorOptimize(false);
}

}  // namespace kvr::model

// Setting libtorch up, once for the whole process.
//
// Thread safety: none; before any other call of this layer. Errors: none of its own.
#pragma once

namespace kvr::model {

// `threads` (0: the physical cores that this process may use, see base/cores.h; a warning if more
// than those), no dynamic MKL threads, no JIT profiling or fusion, so that the same rows always run
// the same instructions.
void SetUpRuntime(int threads);

}  // namespace kvr::model

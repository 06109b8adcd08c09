// The outputs of both arms, side by side.
#pragma once

#include <string>

#include "../samples.h"

namespace kvr::report {

// One element for each prompt of the scope: equal outputs once, others beside the baseline's with
// what follows their first difference marked.
[[nodiscard]] std::string HtmlOutputs(const Scope& scope);

}  // namespace kvr::report

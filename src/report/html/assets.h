// Files that are in the program: the page's style and script, and Vega, which draws its figures.
#pragma once

#include <string_view>

namespace kvr::report {

[[nodiscard]] std::string_view PageStyle();
[[nodiscard]] std::string_view PageScript();
[[nodiscard]] std::string_view VegaScript();
[[nodiscard]] std::string_view VegaLiteScript();
[[nodiscard]] std::string_view VegaEmbedScript();
[[nodiscard]] std::string_view VegaLicences();

}  // namespace kvr::report

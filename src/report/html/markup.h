// Text made safe for a page, and tables in one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvr/base/json.h"
#include "kvr/report/report.h"

namespace kvr::report {

// For an element's content or a quoted attribute: markup characters as references, line breaks and
// tabs kept, every other control character, change of the writing's direction and ill-formed byte
// as U+FFFD or a space. Several lines need an element that keeps them.
[[nodiscard]] std::string HtmlText(std::string_view text);

// JSON for a <script> element: no "<", so that no text ends the element or opens a comment in it,
// and neither of the line separators that JavaScript's grammar once knew and JSON's not.
[[nodiscard]] std::string JsonForScript(const Json& json);

// In a box that scrolls by itself where the page is narrower.
[[nodiscard]] std::string HtmlTable(const Table& table);
[[nodiscard]] std::string HtmlTable(const std::vector<std::string>& heads,
                                    const std::vector<bool>& right,
                                    const std::vector<std::vector<std::string>>& rows);

// "sha256-...", as a content policy names a script.
[[nodiscard]] std::string PolicyHash(std::string_view script);

}  // namespace kvr::report

#include "formats.h"

#include <string>

#include "kvr/base/error.h"

namespace kvr::report {

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (const Format* format : kFormats) names.emplace_back(format->name);
  return names;
}

const Format& FindFormat(std::string_view name) {
  std::string names;
  for (const Format* format : kFormats) {
    if (name == format->name) return *format;
    names.append(names.empty() ? "" : ", ").append(format->name);
  }
  throw InvalidInput("report format \"" + std::string(name) + "\", expected one of " + names);
}

}  // namespace kvr::report

#include "formats.h"

#include <spdlog/fmt/fmt.h>

#include "kvr/base/error.h"
#include "kvr/base/json.h"
#include "kvr/base/registry.h"

namespace kvr::report {

#define KVR_LIST_FORMAT(name) name,
std::span<const Format> Formats() {
  static const Format all[] = {KVR_REPORT_FORMATS(KVR_LIST_FORMAT)};
  return all;
}
#undef KVR_LIST_FORMAT

std::vector<std::string> FormatNames(std::span<const Format> registry) { return NamesOf(registry); }

const Format& FindFormat(std::string_view name, std::span<const Format> registry) {
  if (const Format* format = FindNamed(registry, name)) return *format;
  throw InvalidInput(fmt::format("report format \"{}\", expected one of {}", Shortened(name, 60),
                                 fmt::join(FormatNames(registry), ", ")));
}

}  // namespace kvr::report

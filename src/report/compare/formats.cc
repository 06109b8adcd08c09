#include "formats.h"

#include "kvr/base/error.h"
#include "kvr/base/json.h"
#include "kvr/base/registry.h"

namespace kvr::report {

#define KVR_LIST_FORMAT(name) name,
std::span<const CompareFormat> CompareFormats() {
  static const CompareFormat all[] = {KVR_COMPARE_FORMATS(KVR_LIST_FORMAT)};
  return all;
}
#undef KVR_LIST_FORMAT

const CompareFormat& FindCompareFormat(std::string_view name) {
  if (const CompareFormat* format = FindNamed(CompareFormats(), name)) return *format;
  throw InvalidInput("format of a comparison \"" + Shortened(name, 60) + "\", expected " +
                     AnyOf(CompareFormats()));
}

}  // namespace kvr::report

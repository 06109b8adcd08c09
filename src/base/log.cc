#include "kvr/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "kvr/base/error.h"

namespace kvr {

void SetUpLogging(const std::string& level) {
  const spdlog::level::level_enum parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    throw InvalidInput("log level: found '" + level +
                       "', expected trace, debug, info, warning, error or off");
  }
  spdlog::set_default_logger(spdlog::stderr_color_st("kvr"));
  spdlog::set_pattern("%^%l%$: %v");
  spdlog::set_level(parsed);
}

}  // namespace kvr

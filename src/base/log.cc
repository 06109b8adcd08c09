#include "kvr/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

#include "kvr/base/error.h"

namespace kvr {

void SetUpLogging(const std::string& level) {
  const spdlog::level::level_enum parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off && level != "off") {
    throw InvalidInput("log level: found '" + level +
                       "', expected trace, debug, info, warning, error or off");
  }
  // https://no-color.org: set and not empty.
  const char* const no_color = std::getenv("NO_COLOR");
  const bool plain = no_color != nullptr && *no_color != '\0';
  spdlog::set_default_logger(spdlog::stderr_color_st(
      "kvr", plain ? spdlog::color_mode::never : spdlog::color_mode::automatic));
  spdlog::set_pattern("%^%l%$: %v");
  spdlog::set_level(parsed);
}

}  // namespace kvr

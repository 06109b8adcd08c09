// Private to the model layer: libtorch's exceptions become kvr::Error.
#pragma once

#include <torch/script.h>

#include <string>
#include <utility>

#include "kvr/base/error.h"

namespace kvr::model {

// What TorchScript's interpreter throws is a script's traceback; its last error's line matters.
inline std::string WithoutTraceback(const std::string& text) {
  const std::size_t last = text.rfind("Error: ");
  if (text.find("The following operation failed") == std::string::npos ||
      last == std::string::npos) {
    return text;
  }
  const std::size_t line = text.rfind('\n', last) + 1;  // npos + 1 is 0
  return text.substr(line, text.find('\n', last) - line);
}

// Runs `work`; what libtorch throws is rethrown with `what` (the attempt and the file) in front and
// without its C++ stack trace or script's traceback.
template <typename Work>
auto TorchCall(const std::string& what, Error::Kind kind, Work&& work) {
  const auto as_error = [&](const std::string& message) {
    const bool memory = message.find("can't allocate memory") != std::string::npos;
    return memory ? Resource(what + ": out of memory: " + message)
                  : Error(kind, what + ": " + message);
  };
  try {
    return std::forward<Work>(work)();
  } catch (const Error&) {
    throw;  // says already what it is
  } catch (const c10::OutOfMemoryError& error) {
    throw Resource(what + ": out of memory: " + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    throw as_error(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    throw Resource(what + ": out of memory");
  } catch (const std::runtime_error& error) {
    throw as_error(WithoutTraceback(error.what()));
  }
}

}  // namespace kvr::model

// The one exception type of the program. It is caught once, in main, which prints the message and
// maps the kind to an exit code. An expected absence (a cache miss) is a value, never an Error.
//
// A message says what was found, what was expected, where, and, where it helps, what to do.
//
// Thread safety: as std::runtime_error. Cost: a copy of the message.
#pragma once

#include <stdexcept>
#include <string>

namespace kvr {

class Error : public std::runtime_error {
 public:
  enum class Kind {
    kInvalidInput,  // bad usage, configuration or prompt
    kNotFound,      // a file or entry that was named does not exist
    kCorrupt,       // a file's contents fail their check
    kIo,            // the operating system refused a read or write
    kIncompatible,  // a file of another version, model or precision
    kResource,      // out of memory, disk or another limit
    kInterrupted,   // the user asked to stop
    kCheckFailed,   // a comparison or verification found a difference
  };

  Error(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  [[nodiscard]] Kind kind() const { return kind_; }

  // The program's exit code for this error: 1 a check failed; 2 bad usage or config; 3 a model or
  // cache file is missing, corrupt or incompatible; 4 input/output or resources; 130 interrupted.
  [[nodiscard]] int exit_code() const;

 private:
  Kind kind_;
};

// Named factories, so that call sites read as a sentence.
[[nodiscard]] Error InvalidInput(const std::string& message);
[[nodiscard]] Error NotFound(const std::string& message);
[[nodiscard]] Error Corrupt(const std::string& message);
[[nodiscard]] Error Incompatible(const std::string& message);
[[nodiscard]] Error Resource(const std::string& message);
// Appends ": <strerror(error_number)>". ENOSPC, EDQUOT, ENOMEM and EMFILE become kResource, ENOENT
// becomes kNotFound, everything else kIo.
[[nodiscard]] Error IoError(const std::string& message, int error_number);

}  // namespace kvr

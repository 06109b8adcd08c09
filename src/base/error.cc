#include "kvr/base/error.h"

#include <cerrno>
#include <cstring>

namespace kvr {

int Error::exit_code() const {
  switch (kind_) {
    case Kind::kCheckFailed:
      return 1;
    case Kind::kInvalidInput:
      return 2;
    case Kind::kNotFound:
    case Kind::kCorrupt:
    case Kind::kIncompatible:
      return 3;
    case Kind::kIo:
    case Kind::kResource:
      return 4;
    case Kind::kInterrupted:
      return 130;
  }
  return 4;
}

Error InvalidInput(const std::string& message) { return {Error::Kind::kInvalidInput, message}; }
Error NotFound(const std::string& message) { return {Error::Kind::kNotFound, message}; }
Error Corrupt(const std::string& message) { return {Error::Kind::kCorrupt, message}; }
Error Incompatible(const std::string& message) { return {Error::Kind::kIncompatible, message}; }
Error Resource(const std::string& message) { return {Error::Kind::kResource, message}; }

Error IoError(const std::string& message, int error_number) {
  Error::Kind kind = Error::Kind::kIo;
  if (error_number == ENOSPC || error_number == EDQUOT || error_number == ENOMEM ||
      error_number == EMFILE) {
    kind = Error::Kind::kResource;
  } else if (error_number == ENOENT) {
    kind = Error::Kind::kNotFound;
  }
  return {kind, message + ": " + std::strerror(error_number)};
}

}  // namespace kvr

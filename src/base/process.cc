#include "kvr/base/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "kvr/base/error.h"

namespace kvr {

void PrepareProcess() {
  ::signal(SIGXFSZ, SIG_IGN);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0) continue;
    // The lowest free descriptor is this one: those below are open.
    const int fd = ::open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY);
    if (fd != stream) throw IoError("cannot open /dev/null in place of a closed stream", errno);
  }
}

}  // namespace kvr

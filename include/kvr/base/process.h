// What the process asks of the system before anything else.
//
// Thread safety: called once, by main, before there are threads. Cost: a few system calls.
#pragma once

namespace kvr {

// Opens those of the descriptors 0, 1 and 2 that are closed on /dev/null, so that no file opened
// later takes their place and receives what is meant for a stream. From then on a write past the
// limit on file sizes fails with EFBIG instead of ending the process. Call first in main.
// Throws kIo when /dev/null can't be opened.
void PrepareProcess();

}  // namespace kvr

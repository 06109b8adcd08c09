// Ctrl-C as a flag that long work looks at between its steps, so that it can leave things whole.
//
// Thread safety: the flag may be read from any thread; CatchInterrupts is called once, by main.
// Errors: ThrowIfInterrupted alone throws. Cost: a read of the flag.
#pragma once

namespace kvr {

// From now on SIGINT and SIGTERM set the flag. A second one ends the process at once, with 130.
void CatchInterrupts();

[[nodiscard]] bool Interrupted();

// As if no signal had come: for tests.
void ForgetInterrupt();

// Throws Error (kInterrupted) once the flag is set.
void ThrowIfInterrupted();

}  // namespace kvr

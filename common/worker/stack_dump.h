#pragma once

#include <absl/status/status.h>
#include <sys/types.h>

namespace imageddpo {

/// Has a thread of this process write its stack, a frame per line (`program(+0x12ab)`, which
/// addr2line reads), and waits up to two seconds for that. The thread goes on afterwards; a call of
/// the system that it waits in is begun again. One call at a time in a process.
/// @param thread  as gettid() of it. @param fd  to be written to, as STDERR_FILENO.
/// @return DEADLINE_EXCEEDED: it does not react, as in a call of the system that cannot be
///         interrupted (a file system or a driver that hangs); with the kernel's name of what it
///         waits in, where that is told.
absl::Status DumpStack(pid_t thread, int fd);

}  // namespace imageddpo

#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace imageddpo {

/// A process of this or another host, told apart from later ones with the same number.
struct ProcessId {
  std::string host;          ///< The kernel and the namespace in which `pid` counts.
  int32_t pid = 0;           ///< As `host` numbers it.
  uint64_t start_ticks = 0;  ///< When it was started, in the kernel's clock ticks since its boot.
};

ProcessId ThisProcess();

/// Ends a process with SIGKILL, stopped ones too. A process that is gone already is fine.
/// @return FAILED_PRECONDITION where it runs on another host, is not known, or is this process;
/// PERMISSION_DENIED where the kernel refuses.
absl::Status KillProcess(const ProcessId& process);

/// From now on the calling thread gets only processor time that no other thread wants (Linux sets
/// this for a thread alone). Where that is not permitted, its priority stays as it is.
void LowerThreadPriority();

}  // namespace imageddpo

#pragma once

#include <chrono>
#include <memory>

#include "common/comm/control_channel.h"
#include "common/comm/mpi/mpi_messenger.h"

namespace imageddpo {

/// When a silent worker counts as dead.
struct ControlChannelOptions {
  /// A worker that sends nothing for this long is reported as failed. Has to be longer than any
  /// pause that an overloaded host causes. A death that MPI notices is reported at once.
  std::chrono::milliseconds heartbeat_timeout{10'000};
  /// The same until a worker's first message, while it starts.
  std::chrono::milliseconds first_message_timeout{60'000};
};

/// Rank 0's end; all other ranks are workers. At most one per process. Silence is checked in
/// TakeFailures(), which has to be called about once a second; time during which this process
/// itself was stopped does not count. The messenger must outlive the channel.
std::unique_ptr<ControllerChannel> MakeMpiControllerChannel(MpiMessenger& messenger,
                                                            const ControlChannelOptions& options);

/// The end of any other rank. The messenger must outlive it.
std::unique_ptr<WorkerChannel> MakeMpiWorkerChannel(MpiMessenger& messenger);

}  // namespace imageddpo

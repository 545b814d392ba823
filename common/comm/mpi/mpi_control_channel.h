#pragma once

#include <chrono>
#include <memory>

#include "common/comm/control_channel.h"
#include "common/comm/mpi/mpi_messenger.h"

namespace imageddpo {

/// How the controller judges silence.
struct ControlChannelOptions {
  /// A worker not heard of for this long is reported as failed. Longer than the longest pause that
  /// an overloaded host may cause; a death that MPI notices is reported at once.
  std::chrono::milliseconds heartbeat_timeout{10'000};
  /// The same before a worker's first message, while it starts.
  std::chrono::milliseconds first_message_timeout{60'000};
};

/// Rank 0's end; the workers are all other ranks. At most one per process. Silence is judged in
/// TakeFailures(), which has to be called about once a second; when this process itself was stopped
/// in between, that time does not count. The messenger must outlive the channel.
std::unique_ptr<ControllerChannel> MakeMpiControllerChannel(MpiMessenger& messenger,
                                                            const ControlChannelOptions& options);

/// The end of any other rank.
std::unique_ptr<WorkerChannel> MakeMpiWorkerChannel(MpiMessenger& messenger);

}  // namespace imageddpo

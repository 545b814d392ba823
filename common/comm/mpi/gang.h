#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/comm/communicator.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/nccl/device_communicator.h"

namespace imageddpo {

/// Opens this rank's communicator of a gang (gang rank = index in `world_ranks`). Every member
/// calls it, and nobody else. Returns at once: MeetGang() (meeting.h) waits for the others, and
/// messages that arrive earlier are kept. The death of a rank outside the gang has no effect.
///
/// @param world_ranks  distinct, including this rank, the same list on every member.
/// @param tag          the unique name of this formation; never used twice within a launch.
/// @param device       where this rank's tensors live; one gang at a time for each GPU.
/// @param transport    see device_communicator.h.
/// @return INVALID_ARGUMENT (bad list), ALREADY_EXISTS (tag used before), INTERNAL (the device).
/// The messenger must outlive the communicator and its works.
absl::StatusOr<std::unique_ptr<Communicator>> OpenGang(
    MpiMessenger& messenger, const std::vector<int>& world_ranks, const std::string& tag,
    at::Device device, GpuTransport transport = GpuTransport::kNccl);

}  // namespace imageddpo

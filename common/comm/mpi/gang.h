#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/comm/communicator.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/nccl/device_communicator.h"

namespace imageddpo {

/// This rank's communicator of the gang of `world_ranks` (gang rank = index) for one job; called by
/// each member and by nobody else. Returns at once: MeetGang() (meeting.h) waits for the others.
/// What arrives before is kept. Dead ranks outside the group do not matter.
///
/// @param world_ranks  distinct, this rank among them, the same list on every member.
/// @param tag          names the formation; never used twice within a launch.
/// @param device       where the tensors of this rank live; one gang at a time for each GPU.
/// @param transport    see device_communicator.h.
/// Errors: INVALID_ARGUMENT (bad list), ALREADY_EXISTS (tag used before), INTERNAL (the device).
/// The messenger must outlive the communicator and its works.
absl::StatusOr<std::unique_ptr<Communicator>> OpenGang(
    MpiMessenger& messenger, const std::vector<int>& world_ranks, const std::string& tag,
    at::Device device, GpuTransport transport = GpuTransport::kNccl);

}  // namespace imageddpo

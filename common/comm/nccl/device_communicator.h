#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/comm/communicator.h"
#include "common/comm/mailbox/mailbox.h"

namespace imageddpo {

/// How tensors on GPUs travel. The same on all ranks of a gang; MeetGang() checks that.
enum class GpuTransport {
  kNccl,
  kHostMemory,  ///< As messages, for ranks that share a GPU, which NCCL before 2.30 refuses.
};

/// Makes the communicator for tensors of `device` over a mailbox with its link set: for a GPU as
/// `transport` says, for the CPU the mailbox itself. CMake chooses the implementation:
/// device_communicator_cuda.cc, or device_communicator_cpu.cc, which has no NCCL.
/// @param mailbox  must not be used by anybody else.
/// @return INTERNAL: the device cannot be used.
absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    std::shared_ptr<Mailbox> mailbox, at::Device device, GpuTransport transport);

}  // namespace imageddpo

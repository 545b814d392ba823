#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/comm/communicator.h"
#include "common/comm/mailbox/mailbox.h"

namespace imageddpo {

/// How the tensors of a GPU travel; the same on all ranks of a gang (MeetGang() checks it).
enum class GpuTransport {
  kNccl,
  kHostMemory,  ///< As messages; for ranks that share a GPU, which NCCL before 2.30 does not take.
};

/// The communicator for tensors of `device` over a mailbox that has its link: for a GPU by
/// `transport`, for the CPU the mailbox itself. Which builds have NCCL differs by file:
/// device_communicator_cuda.cc or device_communicator_cpu.cc.
/// @param mailbox  nobody else uses it.
/// Errors: INTERNAL (the device cannot be used).
absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    std::shared_ptr<Mailbox> mailbox, at::Device device, GpuTransport transport);

}  // namespace imageddpo

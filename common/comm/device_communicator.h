#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/comm/communicator.h"
#include "common/comm/mailbox.h"

namespace imageddpo {

/// The communicator for tensors of `device` over a mailbox that has its link: NCCL for a GPU, the
/// mailbox itself for the CPU. Which of the two a build has differs by file:
/// device_communicator_cuda.cc or device_communicator_cpu.cc.
/// @param mailbox  nobody else uses it.
/// Errors: INTERNAL (the device cannot be used).
absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    std::shared_ptr<Mailbox> mailbox, at::Device device);

}  // namespace imageddpo

#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/comm/nccl/device_communicator.h"

namespace imageddpo {

absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    std::shared_ptr<Mailbox> mailbox, at::Device device, GpuTransport /*transport*/) {
  return std::make_unique<MailboxCommunicator>(std::move(mailbox), device);
}

}  // namespace imageddpo

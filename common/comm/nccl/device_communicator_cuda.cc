#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/comm/nccl/cuda_stream.h"
#include "common/comm/nccl/device_communicator.h"
#include "common/comm/nccl/nccl_communicator.h"
#include "common/comm/nccl/nccl_library.h"

namespace imageddpo {

absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    std::shared_ptr<Mailbox> mailbox, at::Device device, GpuTransport transport) {
  if (!device.is_cuda() || transport == GpuTransport::kHostMemory) {
    return std::make_unique<MailboxCommunicator>(std::move(mailbox), device);
  }
  try {
    return std::make_unique<NcclCommunicator>(std::move(mailbox), device, MakeNcclApi(),
                                              MakeCudaStream(device));
  } catch (const CommError& error) {
    return ToStatus(error);
  }
}

}  // namespace imageddpo

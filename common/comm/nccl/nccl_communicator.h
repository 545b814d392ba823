#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "common/comm/communicator.h"
#include "common/comm/mailbox/mailbox.h"
#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/comm/nccl/gpu_stream.h"
#include "common/comm/nccl/nccl_api.h"
#include "common/comm/nccl/nccl_rounds.h"

namespace imageddpo {

class NcclCore;

/// The communicator for GPUs. Tensors on device() go through NCCL, once all participants have
/// agreed (grant_scheduler.h); bytes, tensors on the CPU and the agreement itself go through the
/// mailbox. What a rank sends to itself is copied on the device.
///
/// An issuing thread makes all NCCL calls, one round after the other; it polls and sleeps. A
/// watchdog thread checks that the issuing thread returns from its calls, and aborts the
/// communicators otherwise. A work ends with the first of: success, an error that NCCL reports, a
/// deadline, a failure of the mailbox (a rank has died or gave up), Abort(). After any of these
/// except success, a mismatch or the timeout of a Wait(), NCCL's communicators have been aborted
/// and the group cannot be used any more. An error of this rank's NCCL is also told to the group.
///
/// AllReduceSum is NCCL's, which computes each element once, so all ranks get the same bits. A Send
/// is done when the receiver has the data.
class NcclCommunicator : public Communicator {
 public:
  /// @param mailbox  must not be used by anybody else.
  NcclCommunicator(std::shared_ptr<Mailbox> mailbox, at::Device device, NcclApi api,
                   std::unique_ptr<GpuStream> stream, const NcclDeadlines& deadlines = {});
  ~NcclCommunicator() override;

  int rank() const override;
  int world_size() const override;
  at::Device device() const override;
  at::Device transfer_device() const override { return device_; }
  std::string transport() const override;
  std::unique_ptr<Work> Send(const at::Tensor& tensor, int to, int tag) override;
  std::unique_ptr<Work> Recv(const at::Tensor& tensor, int from, int tag) override;
  std::unique_ptr<Work> SendBytes(std::string bytes, int to, int tag) override;
  std::string RecvBytes(int from, int tag, std::chrono::milliseconds timeout) override;
  std::unique_ptr<Work> AllReduceSum(const at::Tensor& tensor, const RankGroup& group) override;
  std::unique_ptr<Work> AllGather(const at::Tensor& output, const at::Tensor& input,
                                  const RankGroup& group) override;
  std::unique_ptr<Work> Broadcast(const at::Tensor& tensor, int root,
                                  const RankGroup& group) override;
  void Abort(const std::string& reason) override;

 private:
  /// Whether NCCL carries the tensor; false: the mailbox does. @throws std::invalid_argument
  /// neither can.
  bool OnDevice(const at::Tensor& tensor, const char* what) const;
  void CheckRank(int rank, const char* what) const;
  std::unique_ptr<Work> Post(OperationSpec spec, const at::Tensor& tensor,
                             const at::Tensor& output = {});

  const at::Device device_;
  const std::shared_ptr<Mailbox> mailbox_;
  MailboxCommunicator host_;
  const std::shared_ptr<NcclCore> core_;
};

}  // namespace imageddpo

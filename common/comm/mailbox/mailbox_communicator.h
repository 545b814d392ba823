#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "common/comm/communicator.h"
#include "common/comm/mailbox/mailbox.h"

namespace imageddpo {

class CommunicatorCore;

/// The communicator over any mailbox: tensors are sent as bytes, and collectives are made of
/// messages. A transfer proceeds by itself once started; a collective of several rounds proceeds in
/// each call of this communicator and of its works.
///
/// - AllReduceSum: each rank receives one slice of the tensor from all others, adds the slices in
///   rank order and sends the sum to all. So all ranks get the same bits.
/// - AllGather: every rank sends to every other.
/// - Broadcast: a binomial tree over the group, in which a rank forwards to its children what its
///   parent sent. The work of a rank is done when its children have the data too.
///
/// Tensors of another device than the CPU travel through host memory.
class MailboxCommunicator : public Communicator {
 public:
  MailboxCommunicator(std::shared_ptr<Mailbox> mailbox, at::Device device);
  ~MailboxCommunicator() override;

  int rank() const override;
  int world_size() const override;
  at::Device device() const override;
  at::Device transfer_device() const override { return at::kCPU; }
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
  std::shared_ptr<CommunicatorCore> core_;
};

}  // namespace imageddpo

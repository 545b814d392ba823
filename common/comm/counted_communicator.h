#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "common/comm/communicator.h"

namespace imageddpo {

/// Bytes that were passed to transports. Thread-safe.
struct SentBytes {
  std::atomic<int64_t> messages = 0;  ///< Host bytes, and tensors on the CPU.
  std::atomic<int64_t> nccl = 0;      ///< Tensors on a device.
};

/// Another communicator, which counts what this rank sends to others: its own part of a collective
/// counts once, whatever way the transport takes. Thread-compatible as the other one is.
class CountedCommunicator final : public Communicator {
 public:
  CountedCommunicator(std::unique_ptr<Communicator> counted, std::shared_ptr<SentBytes> sent)
      : counted_(std::move(counted)), sent_(std::move(sent)) {}

  int rank() const override { return counted_->rank(); }
  int world_size() const override { return counted_->world_size(); }
  at::Device device() const override { return counted_->device(); }
  at::Device transfer_device() const override { return counted_->transfer_device(); }
  std::string transport() const override { return counted_->transport(); }
  std::unique_ptr<Work> Send(const at::Tensor& tensor, int to, int tag) override;
  std::unique_ptr<Work> Recv(const at::Tensor& tensor, int from, int tag) override;
  std::unique_ptr<Work> SendBytes(std::string bytes, int to, int tag) override;
  std::string RecvBytes(int from, int tag, std::chrono::milliseconds timeout) override;
  std::unique_ptr<Work> AllReduceSum(const at::Tensor& tensor, const RankGroup& group) override;
  std::unique_ptr<Work> AllGather(const at::Tensor& output, const at::Tensor& input,
                                  const RankGroup& group) override;
  std::unique_ptr<Work> Broadcast(const at::Tensor& tensor, int root,
                                  const RankGroup& group) override;
  void Abort(const std::string& reason) override { counted_->Abort(reason); }

 private:
  void Count(const at::Tensor& tensor);

  const std::unique_ptr<Communicator> counted_;
  const std::shared_ptr<SentBytes> sent_;
};

}  // namespace imageddpo

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "common/comm/communicator.h"

namespace imageddpo {

/// Another communicator, with a count of the tensors' bytes that this rank receives from others. Of
/// a collective it counts what the transports' algorithms receive: slices and their sums of an
/// all-reduce, the other ranks' inputs of an all-gather, the tensor of a broadcast once.
class CountingCommunicator : public Communicator {
 public:
  explicit CountingCommunicator(Communicator* gang) : gang_(*gang) {}

  double received_bytes() const { return received_bytes_; }

  int rank() const override { return gang_.rank(); }
  int world_size() const override { return gang_.world_size(); }
  at::Device device() const override { return gang_.device(); }
  at::Device transfer_device() const override { return gang_.transfer_device(); }
  std::string transport() const override { return gang_.transport(); }

  std::unique_ptr<Work> Send(const at::Tensor& tensor, int to, int tag) override {
    return gang_.Send(tensor, to, tag);
  }
  std::unique_ptr<Work> Recv(const at::Tensor& tensor, int from, int tag) override {
    Count(from == rank() ? 0 : 1, tensor);
    return gang_.Recv(tensor, from, tag);
  }
  std::unique_ptr<Work> SendBytes(std::string bytes, int to, int tag) override {
    return gang_.SendBytes(std::move(bytes), to, tag);
  }
  std::string RecvBytes(int from, int tag, std::chrono::milliseconds timeout) override {
    return gang_.RecvBytes(from, tag, timeout);
  }
  std::unique_ptr<Work> AllReduceSum(const at::Tensor& tensor, const RankGroup& group) override {
    Count(2.0 * (group.size() - 1) / group.size(), tensor);
    return gang_.AllReduceSum(tensor, group);
  }
  std::unique_ptr<Work> AllGather(const at::Tensor& output, const at::Tensor& input,
                                  const RankGroup& group) override {
    Count(group.size() - 1, input);
    return gang_.AllGather(output, input, group);
  }
  std::unique_ptr<Work> Broadcast(const at::Tensor& tensor, int root,
                                  const RankGroup& group) override {
    Count(root == rank() ? 0 : 1, tensor);
    return gang_.Broadcast(tensor, root, group);
  }
  void Abort(const std::string& reason) override { gang_.Abort(reason); }

 private:
  void Count(double times, const at::Tensor& tensor) {
    received_bytes_ += times * static_cast<double>(tensor.nbytes());
  }

  Communicator& gang_;
  double received_bytes_ = 0;
};

}  // namespace imageddpo

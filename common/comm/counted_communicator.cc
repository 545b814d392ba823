#include "common/comm/counted_communicator.h"

#include <utility>

namespace imageddpo {

void CountedCommunicator::Count(const at::Tensor& tensor) {
  (tensor.is_cpu() ? sent_->messages : sent_->nccl) += static_cast<int64_t>(tensor.nbytes());
}

std::unique_ptr<Work> CountedCommunicator::Send(const at::Tensor& tensor, int to, int tag) {
  if (to != rank()) Count(tensor);
  return counted_->Send(tensor, to, tag);
}

std::unique_ptr<Work> CountedCommunicator::Recv(const at::Tensor& tensor, int from, int tag) {
  return counted_->Recv(tensor, from, tag);
}

std::unique_ptr<Work> CountedCommunicator::SendBytes(std::string bytes, int to, int tag) {
  if (to != rank()) sent_->messages += static_cast<int64_t>(bytes.size());
  return counted_->SendBytes(std::move(bytes), to, tag);
}

std::string CountedCommunicator::RecvBytes(int from, int tag, std::chrono::milliseconds timeout) {
  return counted_->RecvBytes(from, tag, timeout);
}

std::unique_ptr<Work> CountedCommunicator::AllReduceSum(const at::Tensor& tensor,
                                                        const RankGroup& group) {
  if (group.size() > 1) Count(tensor);
  return counted_->AllReduceSum(tensor, group);
}

std::unique_ptr<Work> CountedCommunicator::AllGather(const at::Tensor& output,
                                                     const at::Tensor& input,
                                                     const RankGroup& group) {
  if (group.size() > 1) Count(input);
  return counted_->AllGather(output, input, group);
}

std::unique_ptr<Work> CountedCommunicator::Broadcast(const at::Tensor& tensor, int root,
                                                     const RankGroup& group) {
  if (root == rank() && group.size() > 1) Count(tensor);
  return counted_->Broadcast(tensor, root, group);
}

}  // namespace imageddpo

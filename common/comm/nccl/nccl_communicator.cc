#include "common/comm/nccl/nccl_communicator.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/comm/group_index.h"
#include "common/comm/nccl/nccl_core.h"

namespace imageddpo {
namespace {

using Kind = OperationSpec::Kind;

std::string Describe(const OperationSpec& spec) {
  switch (spec.kind) {
    case Kind::kSend:
      return absl::StrCat("send to rank ", spec.peer, " (tag ", spec.tag, ", NCCL)");
    case Kind::kRecv:
      return absl::StrCat("receive from rank ", spec.peer, " (tag ", spec.tag, ", NCCL)");
    case Kind::kAllReduceSum:
      return "all-reduce (NCCL)";
    case Kind::kAllGather:
      return "all-gather (NCCL)";
    case Kind::kBroadcast:
      return absl::StrCat("broadcast from rank ", spec.peer, " (NCCL)");
  }
  return "operation";
}

class NcclWork : public Work {
 public:
  explicit NcclWork(std::shared_ptr<Transfer> transfer) : transfer_(std::move(transfer)) {}

  void Wait(std::chrono::milliseconds timeout) override {
    if (!transfer_->WaitUntilDone(timeout)) {
      throw CommError(CommError::Kind::kTimeout,
                      absl::StrCat(transfer_->what(), ": not done after ", timeout.count(),
                                   " ms; a rank is stopped, slow or not taking part"));
    }
    transfer_->ThrowIfFailed();
  }

  bool Done() override { return transfer_->Done(); }

 private:
  const std::shared_ptr<Transfer> transfer_;
};

}  // namespace

NcclCommunicator::NcclCommunicator(std::shared_ptr<Mailbox> mailbox, at::Device device, NcclApi api,
                                   std::unique_ptr<GpuStream> stream,
                                   const NcclDeadlines& deadlines)
    : device_(device),
      mailbox_(mailbox),
      host_(mailbox, at::kCPU),
      core_(std::make_shared<NcclCore>(std::move(mailbox), std::move(api), std::move(stream),
                                       deadlines)) {
  core_->Start();
}

NcclCommunicator::~NcclCommunicator() {
  mailbox_->Fail(CommError::Kind::kAborted, "the communicator has been closed");
  core_->Close();
}

int NcclCommunicator::rank() const { return mailbox_->rank(); }
int NcclCommunicator::world_size() const { return mailbox_->size(); }
at::Device NcclCommunicator::device() const { return device_; }
std::string NcclCommunicator::transport() const { return "NCCL"; }

bool NcclCommunicator::OnDevice(const at::Tensor& tensor, const char* what) const {
  if (!tensor.defined() || !tensor.is_contiguous() ||
      (tensor.device() != device_ && !tensor.device().is_cpu())) {
    throw std::invalid_argument(
        absl::StrCat(what, ": the tensor must be contiguous, on ", device_.str(), " or the CPU"));
  }
  return tensor.device() == device_;
}

void NcclCommunicator::CheckRank(int rank, const char* what) const {
  if (rank < 0 || rank >= world_size()) {
    throw std::invalid_argument(
        absl::StrCat(what, ": rank ", rank, " is not in a group of ", world_size()));
  }
}

std::unique_ptr<Work> NcclCommunicator::Post(OperationSpec spec, const at::Tensor& tensor,
                                             const at::Tensor& output) {
  spec.dtype = static_cast<std::int32_t>(tensor.scalar_type());
  spec.size_bytes = static_cast<std::int64_t>(tensor.nbytes());
  auto operation = std::make_shared<NcclOperation>();
  operation->spec = spec;
  operation->tensor = tensor;
  operation->output = output;
  operation->ready = core_->stream().MarkCaller();
  operation->transfer = std::make_shared<Transfer>(Describe(spec));
  auto work = std::make_unique<NcclWork>(operation->transfer);
  core_->Post(operation);
  return work;
}

std::unique_ptr<Work> NcclCommunicator::Send(const at::Tensor& tensor, int to, int tag) {
  if (!OnDevice(tensor, "Send")) {
    return host_.Send(tensor, to, tag);
  }
  CheckRank(to, "Send");
  return Post({.kind = Kind::kSend, .peer = to, .tag = tag}, tensor);
}

std::unique_ptr<Work> NcclCommunicator::Recv(const at::Tensor& tensor, int from, int tag) {
  if (!OnDevice(tensor, "Recv")) {
    return host_.Recv(tensor, from, tag);
  }
  CheckRank(from, "Recv");
  return Post({.kind = Kind::kRecv, .peer = from, .tag = tag}, tensor);
}

std::unique_ptr<Work> NcclCommunicator::SendBytes(std::string bytes, int to, int tag) {
  return host_.SendBytes(std::move(bytes), to, tag);
}

std::string NcclCommunicator::RecvBytes(int from, int tag, std::chrono::milliseconds timeout) {
  return host_.RecvBytes(from, tag, timeout);
}

std::unique_ptr<Work> NcclCommunicator::AllReduceSum(const at::Tensor& tensor,
                                                     const RankGroup& group) {
  if (!OnDevice(tensor, "AllReduceSum")) {
    return host_.AllReduceSum(tensor, group);
  }
  if (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble) {
    throw std::invalid_argument("AllReduceSum: the tensor must be float32 or float64");
  }
  IndexInGroup(group, *this, "AllReduceSum");
  return Post({.kind = Kind::kAllReduceSum, .tag = group.tag, .participants = group.ranks}, tensor);
}

std::unique_ptr<Work> NcclCommunicator::AllGather(const at::Tensor& output, const at::Tensor& input,
                                                  const RankGroup& group) {
  if (OnDevice(output, "AllGather") != OnDevice(input, "AllGather")) {
    throw std::invalid_argument("AllGather: input and output must be on one device");
  }
  if (!OnDevice(input, "AllGather")) {
    return host_.AllGather(output, input, group);
  }
  CheckGathered(output, input, group);
  IndexInGroup(group, *this, "AllGather");
  return Post({.kind = Kind::kAllGather, .tag = group.tag, .participants = group.ranks}, input,
              output);
}

std::unique_ptr<Work> NcclCommunicator::Broadcast(const at::Tensor& tensor, int root,
                                                  const RankGroup& group) {
  if (!OnDevice(tensor, "Broadcast")) {
    return host_.Broadcast(tensor, root, group);
  }
  IndexInGroup(group, root, world_size(), "Broadcast");
  IndexInGroup(group, *this, "Broadcast");
  return Post(
      {.kind = Kind::kBroadcast, .peer = root, .tag = group.tag, .participants = group.ranks},
      tensor);
}

void NcclCommunicator::Abort(const std::string& reason) {
  core_->Fail(CommError::Kind::kAborted, reason);
  mailbox_->Abort(reason);
}

}  // namespace imageddpo

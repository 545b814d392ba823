#include "common/comm/mailbox/mailbox_communicator.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/comm/group_index.h"
#include "common/comm/mailbox/operation.h"

namespace imageddpo {
namespace {

using Clock = std::chrono::steady_clock;
using Lane = MessageHeader::Lane;
using Transfers = std::vector<std::shared_ptr<Transfer>>;

// Formats: the dtype for transfers; collectives add a number of their own, so that a mismatch is
// noticed when ranks call different collectives at the same time.
constexpr std::int32_t kBytesFormat = -1;
constexpr std::int32_t kAllReduceFormat = 1000;
constexpr std::int32_t kAllGatherFormat = 2000;
constexpr std::int32_t kBroadcastFormat = 3000;

// While a collective of several rounds is under way, a thread that waits for another operation also
// advances the collective, at this interval.
constexpr std::chrono::milliseconds kTick{1};

std::int32_t DtypeFormat(const at::Tensor& tensor) {
  return static_cast<std::int32_t>(tensor.scalar_type());
}

absl::Span<char> TensorBytes(const at::Tensor& tensor) {
  return absl::MakeSpan(static_cast<char*>(tensor.mutable_data_ptr()), tensor.nbytes());
}

std::shared_ptr<void> Owner(const at::Tensor& tensor) {
  return std::make_shared<at::Tensor>(tensor);
}

MessageHeader HeaderOf(Lane lane, std::int32_t format, std::int64_t tag, const at::Tensor& tensor) {
  return {.lane = lane,
          .format = format + DtypeFormat(tensor),
          .tag = tag,
          .size_bytes = static_cast<std::int64_t>(tensor.nbytes())};
}

}  // namespace

class CommunicatorCore {
 public:
  CommunicatorCore(std::shared_ptr<Mailbox> mailbox_in, at::Device device_in)
      : mailbox(std::move(mailbox_in)), device(device_in) {}

  void Tick() {
    active_.erase(std::remove_if(active_.begin(), active_.end(),
                                 [](const auto& operation) { return operation->Advance(); }),
                  active_.end());
  }

  /// Starts an operation. From now on calls of this communicator advance it, round by round.
  std::shared_ptr<Operation> Start(std::string what, Operation::Round round, bool collective) {
    Tick();
    auto operation = std::make_shared<Operation>(std::move(what), std::move(round));
    if (!operation->Advance() && collective) {
      active_.push_back(operation);
    }
    return operation;
  }

  void Wait(Operation& operation, std::chrono::milliseconds timeout) {
    const auto deadline = Clock::now() + timeout;
    while (!operation.Advance()) {
      const auto left = deadline - Clock::now();
      if (left <= Clock::duration::zero()) {
        throw CommError(CommError::Kind::kTimeout,
                        absl::StrCat(operation.Describe(), ": not done after ", timeout.count(),
                                     " ms; a rank is stopped, slow or not taking part"));
      }
      operation.WaitForTransfer(active_.empty() ? left : std::min<Clock::duration>(left, kTick));
      Tick();
    }
    operation.ThrowIfFailed();
  }

  void CheckTensor(const at::Tensor& tensor, const char* what) const {
    if (!tensor.defined() || !tensor.is_contiguous() ||
        (tensor.device() != device && !tensor.device().is_cpu())) {
      throw std::invalid_argument(
          absl::StrCat(what, ": the tensor must be contiguous, on ", device.str(), " or the CPU"));
    }
  }

  void CheckRank(int rank, const char* what) const {
    if (rank < 0 || rank >= mailbox->size()) {
      throw std::invalid_argument(
          absl::StrCat(what, ": rank ", rank, " is not in a group of ", mailbox->size()));
    }
  }

  /// The tensor itself on the CPU, otherwise a copy there.
  static at::Tensor ToHost(const at::Tensor& tensor) {
    return tensor.device().is_cpu() ? tensor : tensor.cpu();
  }
  /// Where to receive into: the tensor itself on the CPU.
  static at::Tensor HostLike(const at::Tensor& tensor) {
    return tensor.device().is_cpu() ? tensor
                                    : at::empty_like(tensor, tensor.options().device(at::kCPU));
  }
  static void FromHost(const at::Tensor& tensor, const at::Tensor& host) {
    if (!tensor.device().is_cpu()) {
      tensor.copy_(host);
    }
  }

  std::shared_ptr<Transfer> Send(int to, const MessageHeader& header,
                                 const at::Tensor& tensor) const {
    return mailbox->Send(to, header, TensorBytes(tensor), Owner(tensor));
  }
  std::shared_ptr<Transfer> Receive(int from, const MessageHeader& header,
                                    const at::Tensor& tensor) const {
    return mailbox->Receive(from, header, TensorBytes(tensor), Owner(tensor));
  }

  /// The tags of a collective with each rank of the group. Of two ranks each counts the
  /// collectives of a tag that they share, so both come to the same number.
  std::vector<std::int64_t> NextTags(const RankGroup& group) {
    std::vector<std::int64_t> tags;
    for (const int rank : group.ranks) {
      tags.push_back((std::int64_t{group.tag} << 32) + collectives_[{rank, group.tag}]++);
    }
    return tags;
  }

  const std::shared_ptr<Mailbox> mailbox;
  const at::Device device;

 private:
  std::map<std::pair<int, int>, std::int64_t> collectives_;  // So far, by rank and tag.
  std::vector<std::shared_ptr<Operation>> active_;
};

namespace {

class OperationWork : public Work {
 public:
  OperationWork(std::shared_ptr<CommunicatorCore> core, std::shared_ptr<Operation> operation)
      : core_(std::move(core)), operation_(std::move(operation)) {}

  void Wait(std::chrono::milliseconds timeout) override { core_->Wait(*operation_, timeout); }

  bool Done() override {
    core_->Tick();
    return operation_->Advance();
  }

 private:
  const std::shared_ptr<CommunicatorCore> core_;
  const std::shared_ptr<Operation> operation_;
};

}  // namespace

MailboxCommunicator::MailboxCommunicator(std::shared_ptr<Mailbox> mailbox, at::Device device)
    : core_(std::make_shared<CommunicatorCore>(std::move(mailbox), device)) {}

MailboxCommunicator::~MailboxCommunicator() {
  core_->mailbox->Fail(CommError::Kind::kAborted, "the communicator has been closed");
}

int MailboxCommunicator::rank() const { return core_->mailbox->rank(); }
int MailboxCommunicator::world_size() const { return core_->mailbox->size(); }
at::Device MailboxCommunicator::device() const { return core_->device; }
std::string MailboxCommunicator::transport() const { return "messages"; }

std::unique_ptr<Work> MailboxCommunicator::Send(const at::Tensor& tensor, int to, int tag) {
  core_->CheckTensor(tensor, "Send");
  core_->CheckRank(to, "Send");
  const auto round = [core = core_.get(), host = CommunicatorCore::ToHost(tensor), to,
                      tag](int number) {
    return number == 0 ? Transfers{core->Send(to, HeaderOf(Lane::kTensor, 0, tag, host), host)}
                       : Transfers{};
  };
  return std::make_unique<OperationWork>(core_, core_->Start("send", round, false));
}

std::unique_ptr<Work> MailboxCommunicator::Recv(const at::Tensor& tensor, int from, int tag) {
  core_->CheckTensor(tensor, "Recv");
  core_->CheckRank(from, "Recv");
  const auto round = [core = core_.get(), tensor, host = CommunicatorCore::HostLike(tensor), from,
                      tag](int number) -> Transfers {
    if (number == 0) {
      return {core->Receive(from, HeaderOf(Lane::kTensor, 0, tag, host), host)};
    }
    CommunicatorCore::FromHost(tensor, host);
    return {};
  };
  return std::make_unique<OperationWork>(core_, core_->Start("receive", round, false));
}

std::unique_ptr<Work> MailboxCommunicator::SendBytes(std::string bytes, int to, int tag) {
  core_->CheckRank(to, "SendBytes");
  auto owner = std::make_shared<std::string>(std::move(bytes));
  const MessageHeader header{.lane = Lane::kBytes,
                             .format = kBytesFormat,
                             .tag = tag,
                             .size_bytes = static_cast<std::int64_t>(owner->size())};
  const auto round = [core = core_.get(), owner, header, to](int number) {
    return number == 0 ? Transfers{core->mailbox->Send(to, header, *owner, owner)} : Transfers{};
  };
  return std::make_unique<OperationWork>(core_, core_->Start("send bytes", round, false));
}

std::string MailboxCommunicator::RecvBytes(int from, int tag, std::chrono::milliseconds timeout) {
  core_->CheckRank(from, "RecvBytes");
  auto text = std::make_shared<std::string>();
  const MessageHeader header{.lane = Lane::kBytes, .format = kBytesFormat, .tag = tag};
  const auto round = [core = core_.get(), text, header, from](int number) {
    return number == 0 ? Transfers{core->mailbox->ReceiveText(from, header, text)} : Transfers{};
  };
  core_->Wait(*core_->Start("receive bytes", round, false), timeout);
  return std::move(*text);
}

std::unique_ptr<Work> MailboxCommunicator::AllReduceSum(const at::Tensor& tensor,
                                                        const RankGroup& group) {
  core_->CheckTensor(tensor, "AllReduceSum");
  if (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble) {
    throw std::invalid_argument("AllReduceSum: the tensor must be float32 or float64");
  }
  const int size = group.size();
  const int self = IndexInGroup(group, *this, "AllReduceSum");
  const at::Tensor host = CommunicatorCore::ToHost(tensor);
  const at::Tensor flat = host.view(-1);
  const std::int64_t slice_size = (flat.numel() + size - 1) / size;
  const auto slice = [flat, slice_size](int index) {
    const std::int64_t begin = std::min<std::int64_t>(index * slice_size, flat.numel());
    return flat.narrow(0, begin, std::min<std::int64_t>(slice_size, flat.numel() - begin));
  };
  const at::Tensor mine = slice(self);
  const at::Tensor others = at::empty({size, mine.numel()}, flat.options());
  const auto round = [=, core = core_.get(), ranks = group.ranks,
                      tags = core_->NextTags(group)](int number) -> Transfers {
    Transfers transfers;
    const auto header = [&tags](int index, const at::Tensor& part) {
      return HeaderOf(Lane::kCollective, kAllReduceFormat, tags[index], part);
    };
    if (number == 1) {  // All slices are here: add them in rank order.
      others.select(0, self).copy_(mine);
      mine.copy_(others.select(0, 0));
      for (int index = 1; index < size; ++index) {
        mine.add_(others.select(0, index));
      }
    }
    for (int step = 1; step < size && number < 2; ++step) {
      const int to = (self + step) % size;
      const int from = (self + size - step) % size;
      const at::Tensor outgoing = number == 0 ? slice(to) : mine;
      const at::Tensor incoming = number == 0 ? others.select(0, from) : slice(from);
      if (incoming.numel() > 0) {
        transfers.push_back(core->Receive(ranks[from], header(from, incoming), incoming));
      }
      if (outgoing.numel() > 0) {
        transfers.push_back(core->Send(ranks[to], header(to, outgoing), outgoing));
      }
    }
    if (number == 2) {
      CommunicatorCore::FromHost(tensor, host);
    }
    return transfers;
  };
  return std::make_unique<OperationWork>(core_, core_->Start("all-reduce", round, true));
}

std::unique_ptr<Work> MailboxCommunicator::AllGather(const at::Tensor& output,
                                                     const at::Tensor& input,
                                                     const RankGroup& group) {
  core_->CheckTensor(output, "AllGather");
  core_->CheckTensor(input, "AllGather");
  CheckGathered(output, input, group);
  const int size = group.size();
  const int self = IndexInGroup(group, *this, "AllGather");
  const at::Tensor host_output = CommunicatorCore::HostLike(output);
  host_output.select(0, self).copy_(input);
  const auto round = [=, core = core_.get(), ranks = group.ranks,
                      tags = core_->NextTags(group)](int number) -> Transfers {
    Transfers transfers;
    if (number == 1) {
      CommunicatorCore::FromHost(output, host_output);
    }
    for (int step = 1; step < size && number == 0; ++step) {
      const int to = (self + step) % size;
      const int from = (self + size - step) % size;
      const at::Tensor incoming = host_output.select(0, from);
      const auto header = [&](int index) {
        return HeaderOf(Lane::kCollective, kAllGatherFormat, tags[index], incoming);
      };
      transfers.push_back(core->Receive(ranks[from], header(from), incoming));
      transfers.push_back(core->Send(ranks[to], header(to), host_output.select(0, self)));
    }
    return transfers;
  };
  return std::make_unique<OperationWork>(core_, core_->Start("all-gather", round, true));
}

std::unique_ptr<Work> MailboxCommunicator::Broadcast(const at::Tensor& tensor, int root,
                                                     const RankGroup& group) {
  core_->CheckTensor(tensor, "Broadcast");
  const int size = group.size();
  const int root_index = IndexInGroup(group, root, world_size(), "Broadcast");
  // Seen from the root as index 0: the parent is the index without its lowest set bit, the children
  // are those with one more bit below it.
  const int relative = (IndexInGroup(group, *this, "Broadcast") - root_index + size) % size;
  const at::Tensor host =
      relative == 0 ? CommunicatorCore::ToHost(tensor) : CommunicatorCore::HostLike(tensor);
  const auto round = [=, core = core_.get(), ranks = group.ranks,
                      tags = core_->NextTags(group)](int number) -> Transfers {
    const auto absolute = [root_index, size](int index) { return (index + root_index) % size; };
    const auto header = [&](int index) {
      return HeaderOf(Lane::kCollective, kBroadcastFormat, tags[index], host);
    };
    const bool is_root = relative == 0;
    if (number == 0 && !is_root) {
      const int parent = absolute(relative & (relative - 1));
      return {core->Receive(ranks[parent], header(parent), host)};
    }
    Transfers transfers;
    if (number == (is_root ? 0 : 1)) {
      int bit = 1;
      while (bit < size && (relative & bit) == 0) {
        bit <<= 1;
      }
      for (bit >>= 1; bit > 0; bit >>= 1) {
        if (relative + bit < size) {
          const int child = absolute(relative + bit);
          transfers.push_back(core->Send(ranks[child], header(child), host));
        }
      }
      if (!is_root) {
        CommunicatorCore::FromHost(tensor, host);
      }
    }
    return transfers;
  };
  return std::make_unique<OperationWork>(core_, core_->Start("broadcast", round, true));
}

void MailboxCommunicator::Abort(const std::string& reason) { core_->mailbox->Abort(reason); }

}  // namespace imageddpo

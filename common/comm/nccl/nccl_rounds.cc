#include "common/comm/nccl/nccl_rounds.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace imageddpo {
namespace {

using Kind = OperationSpec::Kind;

const char* NameOf(NcclResult result) {
  switch (result) {
    case NcclResult::kSuccess:
      return "success";
    case NcclResult::kUnhandledCudaError:
      return "unhandled CUDA error";
    case NcclResult::kSystemError:
      return "system error";
    case NcclResult::kInternalError:
      return "internal error";
    case NcclResult::kInvalidArgument:
      return "invalid argument";
    case NcclResult::kInvalidUsage:
      return "invalid usage";
    case NcclResult::kRemoteError:
      return "remote error: a rank has ended or the network failed";
    case NcclResult::kInProgress:
      return "in progress";
  }
  return "unknown result";
}

std::size_t SizeOf(const NcclOperation& operation) {
  return static_cast<std::size_t>(operation.spec.size_bytes);
}

}  // namespace

NcclRounds::NcclRounds(NcclApi api, std::unique_ptr<GpuStream> stream, int rank,
                       const NcclDeadlines& deadlines)
    : api_(std::move(api)), stream_(std::move(stream)), rank_(rank), deadlines_(deadlines) {}

std::string NcclRounds::NewCommId(const std::vector<std::int32_t>& participants) {
  {
    absl::MutexLock lock(&mutex_);
    if (comms_.contains(participants)) {
      return "";
    }
  }
  std::string id;
  Check(api_.get_unique_id(&id), "ncclGetUniqueId");
  return id;
}

void NcclRounds::Start(const GrantScheduler::Round& round,
                       std::vector<std::shared_ptr<NcclOperation>> operations) {
  round_ = round;
  operations_ = std::move(operations);
  comm_ = nullptr;
  deadline_ = Clock::now() + deadlines_.round;
  const bool any_bytes = std::any_of(operations_.begin(), operations_.end(),
                                     [](const auto& one) { return SizeOf(*one) > 0; });
  if (round.participants.size() == 1) {
    QueueCopies();
  } else if (!any_bytes) {
    phase_ = Phase::kRunning;  // There was only the agreement.
  } else if (round.comm_id.empty()) {
    {
      absl::MutexLock lock(&mutex_);
      const auto found = comms_.find(round.participants);
      if (found == comms_.end()) {
        throw CommError(CommError::Kind::kTransport,
                        absl::StrCat("no NCCL communicator of the ranks ",
                                     absl::StrJoin(round.participants, ","),
                                     aborted_ ? ": it has been aborted" : ""));
      }
      comm_ = found->second;
    }
    Queue();
  } else {
    phase_ = Phase::kSetup;
    deadline_ = Clock::now() + deadlines_.setup;
    const NcclResult result = api_.init_rank(&comm_, static_cast<int>(round.participants.size()),
                                             round.comm_id, IndexOf(rank_));
    if (comm_ != nullptr) {
      absl::MutexLock lock(&mutex_);
      comms_[round.participants] = comm_;
    }
    Check(result, "ncclCommInitRankConfig");
  }
}

bool NcclRounds::Poll() {
  if (phase_ == Phase::kSetup) {
    const NcclResult state = State();
    Check(state, "making a communicator");
    if (state == NcclResult::kInProgress) {
      CheckDeadline("making a communicator");
      return false;
    }
    deadline_ = Clock::now() + deadlines_.round;
    Queue();
  }
  if (phase_ == Phase::kQueued) {
    const NcclResult state = State();
    Check(state, "queueing a round");
    if (state == NcclResult::kInProgress) {
      CheckDeadline("queueing a round");
      return false;
    }
    event_ = stream_->Mark();
    phase_ = Phase::kRunning;
  }
  if (phase_ == Phase::kRunning) {
    if (comm_ != nullptr) {
      Check(State(), "a round");
    }
    if (event_ != nullptr && !event_->Done()) {
      CheckDeadline("a round");
      return false;
    }
    event_ = nullptr;
    operations_.clear();
    phase_ = Phase::kIdle;
    return true;
  }
  return false;
}

void NcclRounds::QueueCopies() {
  for (const auto& operation : operations_) {
    stream_->WaitFor(*operation->ready);
  }
  for (std::size_t i = 0; i < operations_.size(); ++i) {
    const NcclOperation& operation = *operations_[i];
    if (SizeOf(operation) == 0) {
      continue;
    }
    if (operation.spec.kind == Kind::kAllGather) {
      stream_->Copy(operation.output.mutable_data_ptr(), operation.tensor.const_data_ptr(),
                    SizeOf(operation));
    } else if (operation.spec.kind == Kind::kSend) {  // Followed by its receive.
      stream_->Copy(operations_[i + 1]->tensor.mutable_data_ptr(),
                    operation.tensor.const_data_ptr(), SizeOf(operation));
    }
  }
  event_ = stream_->Mark();
  phase_ = Phase::kRunning;
}

void NcclRounds::Queue() {
  phase_ = Phase::kQueued;
  for (const auto& operation : operations_) {
    stream_->WaitFor(*operation->ready);
  }
  Check(api_.group_start(), "ncclGroupStart");
  NcclResult result = NcclResult::kSuccess;
  for (const auto& operation : operations_) {
    ThrowIfAborted();
    if (SizeOf(*operation) > 0 &&
        (result == NcclResult::kSuccess || result == NcclResult::kInProgress)) {
      result = Issue(*operation);
    }
  }
  ThrowIfAborted();
  const NcclResult end = api_.group_end();  // Also after an error: a group must not stay open.
  Check(result, "queueing a round");
  Check(end, "ncclGroupEnd");
}

NcclResult NcclRounds::Issue(const NcclOperation& operation) {
  const std::size_t size = SizeOf(operation);
  const at::Tensor& tensor = operation.tensor;
  void* const stream = stream_->handle();
  switch (operation.spec.kind) {
    case Kind::kSend:
      return api_.send(tensor.const_data_ptr(), size, IndexOf(operation.spec.peer), comm_, stream);
    case Kind::kRecv:
      return api_.recv(tensor.mutable_data_ptr(), size, IndexOf(operation.spec.peer), comm_,
                       stream);
    case Kind::kBroadcast:
      return api_.broadcast(tensor.mutable_data_ptr(), size, IndexOf(operation.spec.peer), comm_,
                            stream);
    case Kind::kAllGather:
      return api_.all_gather(tensor.const_data_ptr(), operation.output.mutable_data_ptr(), size,
                             comm_, stream);
    case Kind::kAllReduceSum:
      return api_.all_reduce_sum(tensor.mutable_data_ptr(), size / tensor.itemsize(),
                                 tensor.scalar_type() == at::kDouble, comm_, stream);
  }
  return NcclResult::kInvalidArgument;
}

int NcclRounds::IndexOf(std::int32_t rank) const {
  const auto& ranks = round_.participants;
  return static_cast<int>(std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

void NcclRounds::ThrowIfAborted() {
  absl::MutexLock lock(&mutex_);
  if (aborted_) {
    throw CommError(CommError::Kind::kAborted, "NCCL's communicators have been aborted");
  }
}

NcclResult NcclRounds::State() {
  ThrowIfAborted();
  NcclResult state = NcclResult::kSuccess;
  Check(api_.get_async_error(comm_, &state), "ncclCommGetAsyncError");
  return state;
}

void NcclRounds::Check(NcclResult result, const char* what) {
  ThrowIfAborted();  // Perhaps while the call was under way.
  if (result == NcclResult::kSuccess || result == NcclResult::kInProgress) {
    return;
  }
  std::string words = comm_ == nullptr ? "" : api_.last_error(comm_);
  throw CommError(
      result == NcclResult::kRemoteError ? CommError::Kind::kPeerFailed
                                         : CommError::Kind::kTransport,
      absl::StrCat("NCCL ", api_.version(), " on rank ", rank_, ", ", what, ": ", NameOf(result),
                   words.empty() ? "" : " (", words, words.empty() ? "" : ")"));
}

void NcclRounds::CheckDeadline(const char* what) const {
  if (Clock::now() > deadline_) {
    throw CommError(CommError::Kind::kTimeout,
                    absl::StrCat("NCCL on rank ", rank_, ", ", what, " with the ranks ",
                                 absl::StrJoin(round_.participants, ","),
                                 ": not done in time; a rank is stopped or its device hangs"));
  }
}

void NcclRounds::AbortAll() {
  std::map<std::vector<std::int32_t>, NcclComm> comms;
  {
    absl::MutexLock lock(&mutex_);
    aborted_ = true;
    comms.swap(comms_);
  }
  for (const auto& [participants, comm] : comms) {
    api_.abort(comm);  // What it answers changes nothing.
  }
}

}  // namespace imageddpo

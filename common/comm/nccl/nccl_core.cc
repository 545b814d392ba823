#include "common/comm/nccl/nccl_core.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace imageddpo {
namespace {

using OperationId = GrantScheduler::OperationId;

constexpr std::chrono::nanoseconds kIdlePause = std::chrono::seconds(1);
constexpr std::chrono::nanoseconds kMinPollPause = std::chrono::microseconds(20);
constexpr std::chrono::nanoseconds kMaxPollPause = std::chrono::milliseconds(1);
constexpr std::chrono::milliseconds kWatchPeriod{250};
constexpr std::chrono::milliseconds kTimeToAbort{1000};  // For the issuing thread, after a failure.

constexpr MessageHeader kGrantHeader{
    .lane = MessageHeader::Lane::kGrant, .format = -2, .tag = 0, .size_bytes = 0};

}  // namespace

NcclCore::NcclCore(std::shared_ptr<Mailbox> mailbox, NcclApi api, std::unique_ptr<GpuStream> stream,
                   const NcclDeadlines& deadlines)
    : mailbox_(std::move(mailbox)),
      deadlines_(deadlines),
      rounds_(std::move(api), std::move(stream), mailbox_->rank(), deadlines),
      scheduler_(mailbox_->rank(), this) {}

void NcclCore::Start() {
  issuing_thread_ = std::thread([self = shared_from_this()] { self->Issue(); });
  watchdog_thread_ = std::thread([self = shared_from_this()] { self->Watch(); });
}

void NcclCore::Close() {
  Fail(CommError::Kind::kAborted, "the communicator has been closed");
  commands_->Close();
  bool ended = false;
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    ended = mutex_.AwaitWithTimeout(absl::Condition(&issuing_ended_),
                                    absl::FromChrono(deadlines_.close));
  }
  if (ended) {
    issuing_thread_.join();
  } else {
    issuing_thread_.detach();  // Stuck inside NCCL or the driver; only the process's end ends it.
  }
  watchdog_thread_.join();
}

void NcclCore::Post(const std::shared_ptr<NcclOperation>& operation) {
  OperationId id = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (failure_.has_value()) {
      operation->transfer->Fail(failure_->kind, failure_->message);
      return;
    }
    id = next_operation_++;
    pending_[id] = operation->transfer;
    // Posted under the lock, so that operations are queued in the order of their numbers.
    commands_->Put([this, id, operation] {
      operations_[id] = operation;
      scheduler_.Post(id, operation->spec);
    });
  }
}

void NcclCore::Fail(CommError::Kind kind, const std::string& message) {
  std::map<OperationId, std::shared_ptr<Transfer>> pending;
  {
    absl::MutexLock lock(&mutex_);
    if (failure_.has_value()) {
      return;
    }
    failure_ = Failure{kind, message};
    pending.swap(pending_);
  }
  for (const auto& [id, transfer] : pending) {
    transfer->Fail(kind, message);
  }
  commands_->Put([] {});  // Wakes the issuing thread, which aborts.
}

bool NcclCore::failed() const {
  absl::MutexLock lock(&mutex_);
  return failure_.has_value();
}

void NcclCore::Issue() {
  std::chrono::nanoseconds pause = kMinPollPause;
  const auto fail = [this](CommError::Kind kind, const std::string& message) {
    Fail(kind, message);
    mailbox_->Abort(message);  // The others' halves must not wait for this one.
  };
  bool aborted = false;
  try {
    working_since_ = Clock::now().time_since_epoch().count();
    rounds_.stream().BindThread();
    for (int peer = 0; peer < mailbox_->size(); ++peer) {
      if (peer != mailbox_->rank()) {
        Listen(peer);
      }
    }
  } catch (const std::exception& error) {
    fail(CommError::Kind::kTransport, error.what());
  }
  while (!commands_->closed()) {
    working_since_ = 0;
    const auto commands =
        commands_->TakeAll(absl::FromChrono(rounds_.busy() && !aborted ? pause : kIdlePause));
    working_since_ = Clock::now().time_since_epoch().count();
    if (failed()) {
      if (!aborted) {
        rounds_.AbortAll();
        operations_.clear();
        aborted = true;
      }
      continue;
    }
    pause = commands.empty() ? std::min(2 * pause, kMaxPollPause) : kMinPollPause;
    try {
      for (const auto& command : commands) {
        if (!failed()) {
          command();
        }
      }
      while (!failed() && rounds_.busy() && rounds_.Poll()) {
        pause = kMinPollPause;
        scheduler_.RoundIsOver();  // May start the next.
      }
    } catch (const CommError& error) {
      fail(error.kind(), error.what());
    } catch (const std::exception& error) {
      fail(CommError::Kind::kTransport, error.what());
    }
  }
  rounds_.AbortAll();
  operations_.clear();
  absl::MutexLock lock(&mutex_);
  issuing_ended_ = true;
}

void NcclCore::Listen(int peer) {
  auto text = std::make_shared<std::string>();
  auto transfer = mailbox_->ReceiveText(
      peer, kGrantHeader, text, [commands = std::weak_ptr<Commands>(commands_), this, peer, text] {
        if (const auto queue = commands.lock()) {
          queue->Put([this, peer, text] { OnGrant(peer, *text); });
        }
      });
  absl::MutexLock lock(&mutex_);
  listening_[peer] = std::move(transfer);
}

void NcclCore::CheckMailbox() {
  std::map<int, std::shared_ptr<Transfer>> listening;
  {
    absl::MutexLock lock(&mutex_);
    listening = listening_;
  }
  for (const auto& [peer, transfer] : listening) {
    FailWith(*transfer);
  }
}

bool NcclCore::FailWith(const Transfer& transfer) {
  try {
    transfer.ThrowIfFailed();
    return false;
  } catch (const CommError& error) {
    Fail(error.kind(), error.what());
    return true;
  }
}

void NcclCore::OnGrant(int peer, const std::string& bytes) {
  std::shared_ptr<Transfer> transfer;
  {
    absl::MutexLock lock(&mutex_);
    transfer = listening_.at(peer);
  }
  if (FailWith(*transfer)) {
    return;
  }
  GrantMessage message;
  if (!DecodeGrantMessage(bytes, &message)) {
    throw CommError(CommError::Kind::kTransport,
                    absl::StrCat("rank ", peer,
                                 " sent a message that cannot be read; do all ranks run the same "
                                 "build?"));
  }
  Listen(peer);
  scheduler_.OnMessage(peer, message);
}

void NcclCore::SendGrant(int to, const GrantMessage& message) {
  auto bytes = std::make_shared<std::string>(EncodeGrantMessage(message));
  MessageHeader header = kGrantHeader;
  header.size_bytes = static_cast<std::int64_t>(bytes->size());
  mailbox_->Send(to, header, *bytes, bytes);  // A failure shows on what is received.
}

std::string NcclCore::NewCommId(const std::vector<std::int32_t>& participants) {
  return rounds_.NewCommId(participants);
}

void NcclCore::RunRound(const GrantScheduler::Round& round) {
  std::vector<std::shared_ptr<NcclOperation>> operations;
  for (const OperationId id : round.operations) {
    operations.push_back(operations_.at(id));
  }
  rounds_.Start(round, std::move(operations));
}

std::shared_ptr<NcclOperation> NcclCore::Take(OperationId id) {
  const auto found = operations_.find(id);
  if (found == operations_.end()) {
    throw CommError(CommError::Kind::kTransport, absl::StrCat("no operation has the number ", id));
  }
  auto operation = std::move(found->second);
  operations_.erase(found);
  absl::MutexLock lock(&mutex_);
  pending_.erase(id);
  return operation;
}

void NcclCore::Complete(OperationId id) { Take(id)->transfer->Complete(); }

void NcclCore::Refuse(OperationId id, const std::string& why) {
  Take(id)->transfer->Fail(CommError::Kind::kTransport, why);
}

void NcclCore::Watch() {
  absl::MutexLock lock(&mutex_);
  const auto over = [this]()
                        ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return closing_ && issuing_ended_; };
  // If the issuing thread never returns, give up after a last attempt to abort.
  for (bool last = false; !last;) {
    if (mutex_.AwaitWithTimeout(absl::Condition(&over), absl::FromChrono(kWatchPeriod))) {
      return;
    }
    const Clock::rep since = working_since_;
    if (since == 0) {
      continue;
    }
    const auto inside = Clock::now().time_since_epoch() - Clock::duration(since);
    const bool closing = closing_;
    mutex_.Unlock();
    if (inside > kWatchPeriod) {
      CheckMailbox();
    }
    if (inside > deadlines_.call) {
      const std::string message =
          absl::StrCat("a call of NCCL has not returned for ", deadlines_.call.count(),
                       " ms on rank ", mailbox_->rank(), "; its device or driver hangs");
      Fail(CommError::Kind::kTimeout, message);
      mailbox_->Abort(message);
    }
    if (failed() && inside > kTimeToAbort) {
      rounds_.AbortAll();
      last = closing && inside > deadlines_.close;
    }
    mutex_.Lock();
  }
}

}  // namespace imageddpo

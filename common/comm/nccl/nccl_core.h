#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/blocking_queue.h"
#include "common/comm/mailbox/mailbox.h"
#include "common/comm/nccl/grant_scheduler.h"
#include "common/comm/nccl/nccl_rounds.h"

namespace imageddpo {

/// The threads of an NcclCommunicator and what they share. The threads keep this object alive, so
/// that a thread whose NCCL call never returns can be abandoned. Post() and Fail()
/// may be called by any thread.
class NcclCore : public std::enable_shared_from_this<NcclCore>, private GrantScheduler::Host {
 public:
  NcclCore(std::shared_ptr<Mailbox> mailbox, NcclApi api, std::unique_ptr<GpuStream> stream,
           const NcclDeadlines& deadlines);

  /// Starts the threads; called once.
  void Start();
  /// Aborts what is left and ends the threads; sends nothing.
  void Close();

  GpuStream& stream() { return rounds_.stream(); }

  /// Starts an operation; its result is in its transfer. Any thread.
  void Post(const std::shared_ptr<NcclOperation>& operation);

  /// Fails all pending and all later operations, and aborts NCCL. Only the first call has an
  /// effect. Any thread.
  void Fail(CommError::Kind kind, const std::string& message);

 private:
  using Clock = std::chrono::steady_clock;
  using Commands = BlockingQueue<std::function<void()>>;
  struct Failure {
    CommError::Kind kind;
    std::string message;
  };

  void SendGrant(int to, const GrantMessage& message) override;
  std::string NewCommId(const std::vector<std::int32_t>& participants) override;
  void RunRound(const GrantScheduler::Round& round) override;
  void Complete(GrantScheduler::OperationId id) override;
  void Refuse(GrantScheduler::OperationId id, const std::string& why) override;

  void Issue();
  void Listen(int peer);
  void OnGrant(int peer, const std::string& bytes);
  void CheckMailbox();
  /// Fails in the same way as the transfer, if that has failed. @return whether it has.
  bool FailWith(const Transfer& transfer);
  std::shared_ptr<NcclOperation> Take(GrantScheduler::OperationId id);
  bool failed() const;
  void Watch();

  const std::shared_ptr<Mailbox> mailbox_;
  const NcclDeadlines deadlines_;
  // For the issuing thread.
  const std::shared_ptr<Commands> commands_ = std::make_shared<Commands>();
  NcclRounds rounds_;

  // Used by the issuing thread only.
  GrantScheduler scheduler_;
  std::map<GrantScheduler::OperationId, std::shared_ptr<NcclOperation>> operations_;

  mutable absl::Mutex mutex_;
  std::optional<Failure> failure_ ABSL_GUARDED_BY(mutex_);
  std::map<GrantScheduler::OperationId, std::shared_ptr<Transfer>> pending_ ABSL_GUARDED_BY(mutex_);
  std::map<int, std::shared_ptr<Transfer>> listening_ ABSL_GUARDED_BY(mutex_);  // By peer.
  GrantScheduler::OperationId next_operation_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool issuing_ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<Clock::rep> working_since_{0};  // When the issuing thread woke up; 0: it sleeps.

  std::thread issuing_thread_;
  std::thread watchdog_thread_;
};

}  // namespace imageddpo

#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/base/blocking_queue.h"
#include "common/comm/mailbox/mailbox.h"
#include "common/comm/mpi/mpi_requests.h"
#include "common/comm/mpi/mpi_runtime.h"

namespace imageddpo {

/// Carries messages between the processes of a launch. A thread of its own makes every MPI call
/// after the start. It polls MPI, then sleeps, a little longer each time nothing happened. So
/// transfers proceed whatever the other threads do, no thread spins, and no MPI call blocks.
///
/// A message is addressed to a port of a process: a number that both ends know, of the control
/// channel or of a gang. It travels as an envelope, which includes the bytes if they are few.
/// Otherwise the bytes follow in messages of their own, directly from the sender's to the
/// receiver's memory, as soon as the receiver has said where to. A receive for an envelope is
/// always posted for every rank; through it MPI also reports that a rank has died.
///
/// All gangs share one MPI communicator. Communicators of their own (MPI_Comm_create_from_group)
/// were tried: with Open MPI 5.0.11 making one hangs when a member dies meanwhile, and it takes
/// longer each time (2 ms at first, 400 ms after 500), in blocking calls that burn a core.
///
/// Thread-safe.
class MpiMessenger {
 public:
  struct Options {
    /// Pause between two polls right after something happened.
    std::chrono::microseconds min_pause{20};
    /// Longest pause while a gang exists or transfers are under way. Smaller: lower latency.
    std::chrono::microseconds busy_pause{1000};
    /// Longest pause of a process without a gang: what the first message of a job may wait. A poll
    /// takes up to 60 µs on a slow processor, all caches being cold, so this costs 0.3% of a core.
    std::chrono::microseconds idle_pause{20000};
  };

  /// Receives the messages for one port. Called on the messenger's thread: must not block.
  class Port {
   public:
    virtual ~Port() = default;
    virtual void OnMessage(int from_world_rank, const MessageHeader& header,
                           std::unique_ptr<Payload> payload) = 0;
    /// A rank has called SendAbort() for this port.
    virtual void OnAbort(int from_world_rank, const std::string& reason) = 0;
    /// A rank of the world has died or left. When a port is opened, it is also called for the ranks
    /// that are known to be lost.
    virtual void OnRankLost(int world_rank, const std::string& reason) = 0;
  };

  /// The runtime must outlive the messenger.
  MpiMessenger(MpiRuntime& runtime, const Options& options);
  /// Stops the thread; sends nothing. The memory of unfinished transfers is handed to the runtime.
  ~MpiMessenger();

  int world_rank() const { return world_rank_; }
  int world_size() const { return world_size_; }

  /// Opens a port. Messages for it that arrived before, up to a few minutes ago, are delivered.
  /// @param busy  whether to poll more often while the port is open.
  /// @return      false if the number has been used before: numbers are never used twice.
  bool Open(std::uint64_t port_id, std::shared_ptr<Port> port, bool busy);

  /// Messages that arrive later for this port are dropped. A call of the port may still be running.
  void Close(std::uint64_t port_id);

  /// Starts to send to another rank; see Link::Send. `transfer` may be null.
  void Send(int to_world_rank, std::uint64_t port_id, const MessageHeader& header,
            absl::Span<const char> bytes, std::shared_ptr<const void> owner,
            std::shared_ptr<Transfer> transfer);

  /// Makes OnAbort() be called on that rank's port.
  void SendAbort(int to_world_rank, std::uint64_t port_id, const std::string& reason);

  /// The reason for a loss that MPI reported.
  static constexpr char kDied[] = "the process has died";

  /// Treats a rank as lost for a reason that MPI does not see.
  void DeclareLost(int world_rank, const std::string& reason);

  /// Tells all other ranks that this one ends (MPI does not report exits with a code other than 0),
  /// and waits up to `timeout` until all sends are done. Must be the last call.
  void Leave(const std::string& reason, std::chrono::milliseconds timeout);

 private:
  struct Envelope;
  struct EarlyMessage;
  class RemotePayload;
  using Commands = BlockingQueue<std::function<void()>>;

  void Loop(const Options& options);
  bool ReceiveEnvelopes();
  void PostEnvelopeReceive(int from);
  void HandleEnvelope(int from, absl::Span<const char> message);
  void HandleMessage(int from, const Envelope& envelope, std::unique_ptr<Payload> payload);
  void HandleAbort(int from, const Envelope& envelope, const std::string& reason);
  void SendEnvelope(int to, const Envelope& envelope, absl::Span<const char> content);
  void MarkLost(int world_rank, const std::string& reason);
  void DropOldMessages();
  void CancelReceives();

  MpiRuntime& runtime_;
  const int world_rank_;
  const int world_size_;
  absl::Mutex mutex_;
  std::unordered_set<std::uint64_t> used_ports_ ABSL_GUARDED_BY(mutex_);

  const std::shared_ptr<Commands> commands_ = std::make_shared<Commands>();  // For its thread.

  // All below belongs to the messenger's thread while it runs.
  std::map<std::uint64_t, std::shared_ptr<Port>> ports_;
  std::unordered_set<std::uint64_t> busy_ports_;
  std::unordered_set<std::uint64_t>
      closed_ports_;                        // Messages that still arrive for them are dropped.
  std::list<EarlyMessage> early_messages_;  // For ports not opened yet.
  std::map<int, std::string> lost_;         // World rank and reason.
  std::vector<std::vector<char>> envelope_buffers_;  // One per world rank.
  std::vector<MPI_Request> envelope_requests_;
  std::vector<std::uint64_t> next_sequence_;  // Per receiving world rank.
  MpiRequests requests_;
  std::vector<int> indices_;  // For MPI_Testsome.
  std::vector<MPI_Status> statuses_;

  std::thread thread_;
};

}  // namespace imageddpo

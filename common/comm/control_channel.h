#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// Rank 0's end of the control channel: small messages to and from the workers, in order per rank.
/// Thread-safe; no call blocks longer than its timeout.
class ControllerChannel {
 public:
  virtual ~ControllerChannel() = default;

  /// World ranks of the workers (only 0 if the service is one process).
  virtual std::vector<int> worker_ranks() const = 0;

  /// Queues a message. A message to a rank that has died is dropped.
  virtual void Send(int world_rank, v1::ControllerMessage message) = 0;

  /// The next message of any worker, with its world rank; nullopt if none came within `timeout`.
  virtual std::optional<std::pair<int, v1::WorkerMessage>> Receive(
      std::chrono::milliseconds timeout) = 0;

  struct Failure {
    int world_rank;
    std::string reason;  ///< "the process has died ...", "no heartbeat for 10.2 s".
  };
  /// The ranks that were found dead since the last call; each is reported once.
  virtual std::vector<Failure> TakeFailures() = 0;
};

/// A worker's end of the control channel. Thread-safe.
class WorkerChannel {
 public:
  virtual ~WorkerChannel() = default;
  virtual int world_rank() const = 0;
  virtual void Send(v1::WorkerMessage message) = 0;  ///< Queues the message.
  virtual std::optional<v1::ControllerMessage> Receive(std::chrono::milliseconds timeout) = 0;
  /// Whether the transport knows that rank 0 is dead. (The worker itself watches for missed
  /// leases.)
  virtual bool ControllerFailed() = 0;
};

}  // namespace imageddpo

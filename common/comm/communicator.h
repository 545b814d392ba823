#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include "absl/status/status.h"

namespace imageddpo {

/// Why a transfer or collective did not complete. Thrown by Work::Wait and by the calls that wait.
class CommError : public std::runtime_error {
 public:
  enum class Kind {
    kPeerFailed,  ///< A rank of the group has died (or its host is gone).
    kTimeout,     ///< The deadline passed; the peer may be stopped or only slow.
    kAborted,     ///< Abort() was called here or the group was revoked by another rank.
    kTransport,   ///< The transport reported anything else.
  };
  CommError(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

/// A CommError as it crosses a job's boundary: kPeerFailed UNAVAILABLE, kTimeout DEADLINE_EXCEEDED,
/// kAborted ABORTED, kTransport INTERNAL.
inline absl::Status ToStatus(const CommError& error) {
  switch (error.kind()) {
    case CommError::Kind::kPeerFailed:
      return absl::UnavailableError(error.what());
    case CommError::Kind::kTimeout:
      return absl::DeadlineExceededError(error.what());
    case CommError::Kind::kAborted:
      return absl::AbortedError(error.what());
    case CommError::Kind::kTransport:
      break;
  }
  return absl::InternalError(error.what());
}

/// One transfer or collective under way. Owns what the transfer needs (tensors included) until it
/// is done. The destructor never communicates: dropping unfinished work leaves it to the
/// communicator, which completes or aborts it.
class Work {
 public:
  virtual ~Work() = default;

  /// Blocks (sleeping, never spinning) until done.
  /// @throws CommError  the peer failed, `timeout` passed or the communicator was aborted.
  virtual void Wait(std::chrono::milliseconds timeout) = 0;

  /// True once Wait() would return or throw at once; makes progress, does not block.
  virtual bool Done() = 0;
};

/// Point-to-point transfers and collectives over one group of ranks, one device per rank. Tensors
/// are contiguous and live on device(), or on the CPU where that is so for every rank that takes
/// part. Every rank calls collectives in the same order; transfers between two ranks with one tag
/// arrive in the order sent.
/// Thread-compatible: one thread at a time, except Abort(), which any thread may call.
class Communicator {
 public:
  virtual ~Communicator() = default;  ///< Aborts pending work; never communicates.

  virtual int rank() const = 0;        ///< 0-based, < world_size().
  virtual int world_size() const = 0;  ///< Ranks in the group, >= 1.
  virtual at::Device device() const = 0;
  /// For messages, and to see that all ranks of a group use the same: "messages", "NCCL".
  virtual std::string transport() const = 0;

  /// Starts to send `tensor` (any dtype, any shape, 0 elements too) to rank `to`. `to` may be this
  /// rank. The tensor must not be written before the work is done.
  virtual std::unique_ptr<Work> Send(const at::Tensor& tensor, int to, int tag) = 0;

  /// Starts to receive into `tensor`, whose dtype and number of elements equal the sender's; where
  /// they do not, the receive fails with kTransport and the group goes on.
  virtual std::unique_ptr<Work> Recv(const at::Tensor& tensor, int from, int tag) = 0;

  /// Host bytes of a length that the receiver does not know. SendBytes copies and returns at once.
  virtual std::unique_ptr<Work> SendBytes(std::string bytes, int to, int tag) = 0;
  /// Blocks. @throws CommError
  virtual std::string RecvBytes(int from, int tag, std::chrono::milliseconds timeout) = 0;

  /// In place; float32 or float64; the same bits on every rank. The order of the additions is the
  /// transport's own: what must be the same for every number of ranks uses AllGather and adds by
  /// itself.
  virtual std::unique_ptr<Work> AllReduceSum(const at::Tensor& tensor) = 0;

  /// `output` is [world_size, ...input.shape], in rank order.
  virtual std::unique_ptr<Work> AllGather(const at::Tensor& output, const at::Tensor& input) = 0;

  /// In place: every rank ends with root's content.
  virtual std::unique_ptr<Work> Broadcast(const at::Tensor& tensor, int root) = 0;

  /// Ends all pending and later work of this rank with kAborted and lets the group know where the
  /// transport can. Idempotent; safe from any thread.
  virtual void Abort(const std::string& reason) = 0;
};

}  // namespace imageddpo

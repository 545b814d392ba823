#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace imageddpo {

/// Why a transfer or collective did not complete. Thrown by Work::Wait and by the calls that wait.
class CommError : public std::runtime_error {
 public:
  enum class Kind {
    kPeerFailed,  ///< A rank of the group has died (or its host is gone).
    kTimeout,     ///< The deadline passed; the peer may be stopped or only slow.
    kAborted,     ///< Abort() was called here or the group was revoked by another rank.
    kTransport,   ///< Any other error of the transport.
  };
  CommError(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

/// The status with which a CommError is reported at a job's boundary: kPeerFailed UNAVAILABLE,
/// kTimeout DEADLINE_EXCEEDED, kAborted ABORTED, kTransport INTERNAL.
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

/// One transfer or collective under way. Owns what it needs (tensors included) until it is done.
/// The destructor never communicates: an unfinished transfer is left to the communicator, which
/// completes or aborts it.
class Work {
 public:
  virtual ~Work() = default;

  /// Blocks (sleeping, never spinning) until done.
  /// @throws CommError  the peer failed, `timeout` passed or the communicator was aborted.
  virtual void Wait(std::chrono::milliseconds timeout) = 0;

  /// Whether Wait() would return or throw at once. Advances the transfer; does not block.
  virtual bool Done() = 0;
};

/// The ranks that take part in a collective: distinct, ascending, among them the caller's. Any two
/// ranks must call the collectives that they share under a tag in the same order; collectives of
/// different tags may be called in any order.
struct RankGroup {
  std::vector<int> ranks;
  int tag = 0;

  int size() const { return static_cast<int>(ranks.size()); }
};

/// Point-to-point transfers and collectives between the ranks of a gang, one device per rank.
/// Tensors are contiguous and on device(); or on the CPU, if they are so on every rank that takes
/// part. Transfers between two ranks with the same tag arrive in the order in which they were sent.
/// Thread-compatible: one thread at a time, except Abort(), which any thread may call.
class Communicator {
 public:
  virtual ~Communicator() = default;  ///< Aborts pending work; never communicates.

  virtual int rank() const = 0;        ///< 0-based, < world_size().
  virtual int world_size() const = 0;  ///< Ranks in the gang, >= 1.
  virtual at::Device device() const = 0;
  /// Where a tensor travels without a detour: device() if the transport reads that memory itself,
  /// otherwise the CPU, since a tensor elsewhere is copied to the host first, which waits for all
  /// that its device has been asked for. The same kind on every rank of a gang.
  virtual at::Device transfer_device() const = 0;
  /// "messages" or "NCCL". For error texts, and to check that all ranks of a group use the same.
  virtual std::string transport() const = 0;

  /// Starts to send `tensor` (any dtype, any shape, also with 0 elements) to rank `to`, which may
  /// be this rank. The tensor must not be changed before the work is done.
  virtual std::unique_ptr<Work> Send(const at::Tensor& tensor, int to, int tag) = 0;

  /// Starts to receive into `tensor`. Dtype and number of elements must be the sender's; otherwise
  /// the receive fails with kTransport, and the group remains usable.
  virtual std::unique_ptr<Work> Recv(const at::Tensor& tensor, int from, int tag) = 0;

  /// Sends host bytes whose length the receiver does not know. Copies them and returns at once.
  virtual std::unique_ptr<Work> SendBytes(std::string bytes, int to, int tag) = 0;
  /// Receives what SendBytes() sent. Blocks. @throws CommError
  virtual std::string RecvBytes(int from, int tag, std::chrono::milliseconds timeout) = 0;

  /// Sums in place over the ranks of `group`; float32 or float64. All of them get the same bits,
  /// but the order of the additions is the transport's own. A result that must not depend on the
  /// number of ranks needs an addition in a fixed order.
  virtual std::unique_ptr<Work> AllReduceSum(const at::Tensor& tensor, const RankGroup& group) = 0;

  /// Gathers the inputs of the ranks of `group`. `output` is [group.size(), ...input.shape], in the
  /// order of the ranks.
  virtual std::unique_ptr<Work> AllGather(const at::Tensor& output, const at::Tensor& input,
                                          const RankGroup& group) = 0;

  /// Copies the tensor of rank `root`, one of `group`, into `tensor` on every rank of the group. A
  /// rank may forward what it has received when its own work is waited for, or when it calls the
  /// communicator for anything else.
  virtual std::unique_ptr<Work> Broadcast(const at::Tensor& tensor, int root,
                                          const RankGroup& group) = 0;

  /// Ends all pending and later work of this rank with kAborted, and tells the group if the
  /// transport can. Idempotent.
  virtual void Abort(const std::string& reason) = 0;
};

}  // namespace imageddpo

#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "rollout/reward/remote/remote_reward.h"

namespace imageddpo {

/// What gRPC uses of a call until it has ended.
struct CallState {
  grpc::ClientContext context;
  grpc::ByteBuffer request;
  grpc::ByteBuffer answer;
  grpc::Status status;
  double seconds = 0;        ///< From the call to its end.
  absl::Notification ended;  ///< Notified by gRPC's thread, which then touches the state no more.
};

/// Connections to the replicas of a service, and which of them were away when last asked.
/// Thread-compatible, except stub() and token(), which are thread-safe.
class Replicas {
 public:
  explicit Replicas(const RemoteRewardOptions& options);
  ~Replicas();  ///< Does not wait: abandoned calls that have not ended are left to gRPC.

  size_t size() const { return replicas_.size(); }
  const std::string& address(size_t i) const { return replicas_[i].address; }
  grpc::GenericStub& stub(size_t i) const { return *replicas_[i].stub; }
  const std::string& token() const { return token_; }

  /// Cancels a call and keeps its state until it has ended. It must not go on gRPC's own thread: if
  /// it held the last reference to the last channel, gRPC would make that thread join itself.
  void Abandon(std::unique_ptr<CallState> call);

  /// The replica for the next call: in turn, those that are not away first.
  size_t Next();
  /// One that is away is tried again after a while, longer each time, and whenever all are away.
  void SetAway(size_t i, bool away);

 private:
  struct Replica {
    std::string address;
    std::unique_ptr<grpc::GenericStub> stub;
    std::chrono::steady_clock::time_point away_until = {};
    std::chrono::seconds away_for{0};
  };
  std::vector<Replica> replicas_;
  std::string token_;
  std::vector<std::unique_ptr<CallState>> abandoned_;
  size_t next_ = 0;
};

}  // namespace imageddpo

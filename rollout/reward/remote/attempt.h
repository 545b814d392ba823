#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "rollout/reward/remote/remote_reward.h"
#include "rollout/reward/remote/replicas.h"

namespace imageddpo {

/// Whoever waits for an answer or for its next try asks its WaitWatch so often.
constexpr std::chrono::milliseconds kWatchInterval{100};

/// One call of one replica. The destructor cancels it and does not wait.
class Attempt {
 public:
  /// Sends `request` to "/package.Service/Method" and returns at once.
  Attempt(std::shared_ptr<Replicas> replicas, size_t replica, const std::string& method,
          const grpc::ByteBuffer& request, std::chrono::milliseconds timeout);
  ~Attempt();
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  /// Blocks until the call has ended, and calls `watch` meanwhile. @return DEADLINE_EXCEEDED: it
  /// goes on; what `watch` returned.
  absl::Status Await(std::chrono::steady_clock::time_point deadline, const std::string& waiting_for,
                     const WaitWatch& watch);

  size_t replica() const { return replica_; }
  const grpc::Status& status() const { return call_->status; }  ///< After Await().
  double seconds() const { return call_->seconds; }             ///< It took; after Await().
  /// The answer as `message`. @return false: it is none.
  bool ParseAnswer(google::protobuf::Message* message);
  std::string AnswerBytes() const;

 private:
  std::shared_ptr<Replicas> replicas_;
  std::unique_ptr<CallState> call_;
  size_t replica_;
};

/// A message followed by raw bytes of three of its fields, which are not copied.
grpc::ByteBuffer WithPixels(const v1::ScoreRequest& request, const SharedBytes& generated,
                            const SharedBytes& inputs, const SharedBytes& targets);
grpc::ByteBuffer Serialized(const google::protobuf::Message& message);

}  // namespace imageddpo

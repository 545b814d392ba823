#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/clock.h"
#include "common/base/endpoint.h"
#include "imageddpo/v1/reward.pb.h"

namespace imageddpo {

inline constexpr int kRewardApiVersion = 1;
/// A larger answer is refused: it has a few numbers for each image.
inline constexpr int kMaxRewardAnswerBytes = 16 << 20;

/// How a reward service is reached, and how much is forgiven.
struct RemoteRewardOptions {
  std::string name = "";                ///< The reward's, for messages.
  std::vector<Address> endpoints = {};  ///< Its replicas; at least one.
  std::string tls_ca_pem = "";          ///< Certificates of its authority; empty: no TLS.
  std::string token = "";               ///< Sent as `authorization: Bearer TOKEN`; empty: none.
  std::chrono::milliseconds timeout{60'000};      ///< For one answer.
  std::chrono::milliseconds max_outage{600'000};  ///< For a service that is away, per batch.
  int max_retries = 3;                            ///< Of a batch that could not be scored.
  /// A batch that could not be scored is no error of the call but one of each of its items. A
  /// service that is away, or that refuses all calls, still is the call's.
  bool faults_are_items = false;
  /// Told of each call's end, on the thread that waits: whether it gave scores, and how long it
  /// took.
  std::function<void(bool ok, double seconds)> on_call = [](bool, double) {};
};

/// Bytes that are sent from where they are, without a copy.
struct SharedBytes {
  std::shared_ptr<const void> owner;  ///< Keeps them.
  absl::string_view bytes;            ///< Empty: nothing is sent.
};

/// Items to score. Pixels as the service's description wants them.
struct RemoteBatch {
  v1::ScoreRequest request;  ///< All but RGB pixels; api_version is filled in.
  SharedBytes generated;     ///< As ScoreRequest.generated; unused for PNG.
  SharedBytes inputs;        ///< As ScoreRequest.inputs; unused for PNG.
  SharedBytes targets;       ///< As ScoreRequest.targets; unused for PNG.
};

/// Called several times a second while something is waited for. @param waiting_for  what is away,
/// since when and why, the same text as long as it lasts; empty: an ordinary wait. A status that is
/// not OK ends the wait with that status.
using WaitWatch = std::function<absl::Status(const std::string& waiting_for)>;

/// A batch under way. Thread-compatible. The destructor cancels it and does not wait.
class RemoteCall {
 public:
  virtual ~RemoteCall() = default;

  /// Blocks until the batch is scored. Calls that fail are repeated here, with growing pauses, on
  /// the next replica first (reward.proto says which errors are).
  /// @return one ItemScore for each item, with a finite value and a number for each part name, or
  ///         with an error whose message names the endpoint; the part names even where no item has
  ///         a value, if an earlier answer or the description had them; DEADLINE_EXCEEDED: not
  ///         yet, call again; what `watch` returned; FAILED_PRECONDITION: it cannot be scored, or,
  ///         marked with PausesJob, the service was away for `max_outage`. Messages name reward,
  ///         endpoint and remedy.
  virtual absl::StatusOr<v1::ScoreResponse> Wait(std::chrono::steady_clock::time_point deadline,
                                                 const WaitWatch& watch) = 0;
};

/// The replicas of one reward service. A batch goes to the next replica in turn that is not known
/// to be away; every replica has to give the same scores. Thread-compatible; its calls may outlive
/// it.
class RemoteReward {
 public:
  /// Does not connect. @param clock  for the times in messages; outlives the reward.
  static std::unique_ptr<RemoteReward> Make(RemoteRewardOptions options, const Clock& clock);
  virtual ~RemoteReward() = default;

  /// Asks the replicas' health and description, waiting for a service that is away; at least one
  /// has to answer, and those that do must agree. Blocks; before the first Start(). Errors as
  /// RemoteCall::Wait has them.
  virtual absl::StatusOr<v1::DescribeResponse> Connect(const WaitWatch& watch) = 0;

  /// Sends a batch and returns at once. After Connect().
  virtual std::unique_ptr<RemoteCall> Start(RemoteBatch batch) = 0;
};

}  // namespace imageddpo

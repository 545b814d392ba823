#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/choices.h"
#include "imageddpo/v1/reward.pb.h"
#include "rollout/reward/remote/remote_reward.h"
#include "rollout/reward/reward.h"
#include "rollout/reward/reward_host.h"

namespace imageddpo {

/// Asks a reward service (proto/imageddpo/v1/reward.proto), which anyone may write. CheckDataset()
/// connects and scores the first images of the data as a probe, before anything is sampled.
/// Several batches may be under way; each is one call, or several of the service's `max_batch`.
/// Pixels are converted once, into what is sent. While the service is away Wait() goes on trying,
/// for the job's `max_outage_seconds`, and tells the host what it waits for; the error after that
/// pauses the job (PausesJob).
/// Parts: the service's. An item that could not be scored has an error that names the endpoint; a
/// generated image with NaN in it is OUT_OF_RANGE. Errors of a whole batch are FAILED_PRECONDITION,
/// since another try of the job would end the same way, or the host's; with `on_error: drop` those
/// that concern this batch alone are errors of its items.
class ServiceReward final : public Reward {
 public:
  /// Reads the files of `config.service`; does not connect.
  static absl::StatusOr<std::unique_ptr<Reward>> Make(const RewardConfig& config,
                                                      const RewardHost& host);

  std::string name() const override { return "service"; }
  /// As the service's description says; after CheckDataset().
  RewardNeeds wants() const override { return {.targets = description_.wants_targets()}; }
  std::unique_ptr<PendingReward> Start(std::shared_ptr<const RewardBatch> batch) override;
  absl::Status CheckDataset(const Dataset& dataset, int width, int height) override;

 private:
  ServiceReward(RewardHost host, OnRewardError on_error, std::unique_ptr<RemoteReward> remote)
      : host_(std::move(host)), on_error_(on_error), remote_(std::move(remote)) {}

  absl::Status Connect();
  /// @param finite_B  gets, for each generated image, whether all of its values are finite.
  absl::StatusOr<RemoteBatch> Convert(const RewardBatch& batch, int64_t first, int64_t size,
                                      std::vector<bool>* finite_B) const;

  RewardHost host_;
  OnRewardError on_error_;
  std::unique_ptr<RemoteReward> remote_;
  v1::DescribeResponse description_;
  bool is_connected_ = false;
};

}  // namespace imageddpo

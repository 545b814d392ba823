#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rollout/reward/remote/remote_reward.h"
#include "tests/unit/reward/remote/fake_reward_service.h"

namespace imageddpo {

inline const SystemClock kClock;
inline const WaitWatch kNoWatch = [](const std::string&) { return absl::OkStatus(); };

inline RemoteRewardOptions OptionsOf(const std::vector<std::string>& addresses) {
  RemoteRewardOptions options{.name = "taste"};
  for (const std::string& address : addresses)
    options.endpoints.push_back(*Address::Parse(address));
  return options;
}

/// Images of one pixel with these first bytes.
inline RemoteBatch BatchOf(const std::string& first_bytes) {
  RemoteBatch batch;
  batch.request.set_height(1);
  batch.request.set_width(1);
  auto pixels = std::make_shared<std::string>();
  for (const char byte : first_bytes) {
    batch.request.add_items()->set_id(std::string("image ") + byte);
    *pixels += std::string{byte, 0, 0};
  }
  batch.generated = {pixels, *pixels};
  return batch;
}

inline absl::StatusOr<v1::ScoreResponse> ScoreWith(const RemoteRewardOptions& options,
                                                   const std::string& first_bytes,
                                                   const WaitWatch& watch = kNoWatch) {
  const auto reward = RemoteReward::Make(options, kClock);
  if (const auto connected = reward->Connect(watch); !connected.ok()) return connected.status();
  return reward->Start(BatchOf(first_bytes))
      ->Wait(std::chrono::steady_clock::time_point::max(), watch);
}

inline FakeRewardService::Behaviour Scoring(FakeRewardService::Score score) {
  return {.description = FakeRewardService::Describes(), .score = std::move(score)};
}

}  // namespace imageddpo

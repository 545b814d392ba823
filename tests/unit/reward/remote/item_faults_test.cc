// Batches that could not be scored, where each of their items is to have an error in place of the
// call (`on_error: drop`).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <utility>

#include "tests/unit/reward/remote/remote_inputs.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::HasSubstr;

RemoteRewardOptions WithItemFaults(const FakeRewardService& service) {
  RemoteRewardOptions options = OptionsOf({service.address()});
  options.faults_are_items = true;
  options.max_retries = 1;
  return options;
}

TEST(ItemFaults, AFaultOfABatchIsItsItemsWhereAskedTo) {
  std::atomic<int> calls = 0;
  const FakeRewardService service(
      Scoring([&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        if (calls++ > 0) return absl::InternalError("ValueError: odd");
        return FakeRewardService::FirstByte(request, response);
      }));
  const auto reward = RemoteReward::Make(WithItemFaults(service), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  const auto never = steady_clock::time_point::max();
  ASSERT_TRUE(reward->Start(BatchOf("a"))->Wait(never, kNoWatch).ok());
  const auto answer = reward->Start(BatchOf("ab"))->Wait(never, kNoWatch);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(calls, 3);  // Asked again once, as without it.
  ASSERT_EQ(answer->items_size(), 2);
  for (const v1::ItemScore& item : answer->items()) {
    EXPECT_FALSE(item.has_value());
    EXPECT_THAT(item.error().message(),
                AllOf(HasSubstr(service.address()), HasSubstr("ValueError: odd (in 2 tries)")));
  }
  ASSERT_EQ(answer->part_names_size(), 1);  // Of the first answer.
  EXPECT_EQ(answer->part_names(0), "twice");
}

TEST(ItemFaults, WhatIsWrongWithTheServiceIsNoFaultOfItems) {
  const auto status_of = [](FakeRewardService::Score score) {
    const FakeRewardService service(Scoring(std::move(score)));
    RemoteRewardOptions options = WithItemFaults(service);
    options.max_outage = milliseconds(0);
    return ScoreWith(options, "a").status();
  };
  EXPECT_TRUE(
      status_of([](const auto&, auto*) { return absl::InvalidArgumentError("no face"); }).ok());
  for (const absl::Status& error :
       {absl::UnavailableError("gone"), absl::FailedPreconditionError("another version"),
        absl::PermissionDeniedError("wrong token")}) {
    const absl::Status status = status_of([&](const auto&, auto*) { return error; });
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << error << ": " << status;
  }
}

TEST(ItemFaults, AnItemThatNeverCanBeScoredKeepsNoOtherFromASecondTry) {
  std::atomic<int> calls = 0;
  const FakeRewardService service(
      Scoring([&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        const absl::Status status = FakeRewardService::FirstByte(request, response);
        response->mutable_items(0)->mutable_error()->set_kind(v1::RewardError::INVALID_INPUT);
        if (++calls == 1) response->mutable_items(1)->mutable_error()->set_message("busy");
        return status;
      }));
  const auto answer = ScoreWith(WithItemFaults(service), "ab");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(answer->items(0).has_value());
  EXPECT_EQ(answer->items(1).value(), 'b');
}

}  // namespace
}  // namespace imageddpo

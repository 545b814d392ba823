#include "rollout/reward/remote/remote_reward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "common/base/status.h"
#include "tests/unit/reward/remote/remote_inputs.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Optional;

std::string ErrorOf(const RemoteRewardOptions& options) {
  const auto answer = ScoreWith(options, "ab");
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition) << answer.status();
  return std::string(answer.status().message());
}

TEST(RemoteReward, ReturnsValuesAndPartsInTheOrderOfItems) {
  const FakeRewardService service;
  const auto answer = ScoreWith(OptionsOf({service.address()}), "cab");
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->items_size(), 3);
  EXPECT_EQ(answer->items(0).value(), 'c');
  EXPECT_EQ(answer->items(1).value(), 'a');
  EXPECT_EQ(answer->items(2).parts(0), 2.0 * 'b');
  EXPECT_EQ(answer->part_names(0), "twice");
}

TEST(RemoteReward, SeveralBatchesAreUnderWayAtOnce) {
  absl::Notification second_arrived;
  const FakeRewardService service(
      Scoring([&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        if (request.items(0).id() == "image b") second_arrived.Notify();
        second_arrived.WaitForNotification();  // The first is answered after the second has come.
        return FakeRewardService::FirstByte(request, response);
      }));
  const auto reward = RemoteReward::Make(OptionsOf({service.address()}), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  const auto first = reward->Start(BatchOf("a"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(first->Wait(steady_clock::now(), kNoWatch).status()));
  const auto second = reward->Start(BatchOf("b"));
  EXPECT_EQ(first->Wait(steady_clock::time_point::max(), kNoWatch)->items(0).value(), 'a');
  EXPECT_EQ(second->Wait(steady_clock::time_point::max(), kNoWatch)->items(0).value(), 'b');
}

TEST(RemoteReward, AsksAgainAfterAFault) {
  std::atomic<int> calls = 0;
  const FakeRewardService service(
      Scoring([&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        if (++calls < 3) return absl::InternalError("ValueError: odd");
        return FakeRewardService::FirstByte(request, response);
      }));
  std::vector<bool> ends;
  RemoteRewardOptions options = OptionsOf({service.address()});
  options.on_call = [&](bool ok, double seconds) {
    ends.push_back(ok);
    EXPECT_GT(seconds, 0);
    EXPECT_LT(seconds, 10);
  };
  const auto answer = ScoreWith(options, "a");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->items(0).value(), 'a');
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(ends, std::vector<bool>({false, false, true}));
}

TEST(RemoteReward, GivesUpAfterSoManyFaults) {
  const FakeRewardService service(
      Scoring([](const auto&, auto*) { return absl::InternalError("ValueError: odd"); }));
  RemoteRewardOptions options = OptionsOf({service.address()});
  options.max_retries = 2;
  EXPECT_THAT(ErrorOf(options), AllOf(HasSubstr("reward service 'taste' at " + service.address()),
                                      HasSubstr("ValueError: odd (in 3 tries)")));
  EXPECT_EQ(service.num_calls(), 3);
  options.max_retries = 0;
  ErrorOf(options);
  EXPECT_EQ(service.num_calls(), 4);
}

TEST(RemoteReward, AnItemWithoutAValueHasAnError) {
  const FakeRewardService service(
      Scoring([](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        const absl::Status status = FakeRewardService::FirstByte(request, response);
        response->mutable_items(1)->set_value(std::numeric_limits<double>::quiet_NaN());
        response->mutable_items(2)->clear_value();
        response->mutable_items(2)->clear_parts();
        response->mutable_items(2)->mutable_error()->set_message("no face");
        return status;
      }));
  const auto answer = ScoreWith(OptionsOf({service.address()}), "abc");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(service.num_calls(), 4);
  EXPECT_EQ(answer->items(0).value(), 'a');
  EXPECT_FALSE(answer->items(1).has_value());
  EXPECT_THAT(answer->items(1).error().message(),
              AllOf(HasSubstr(service.address()), HasSubstr("nan is not finite")));
  EXPECT_THAT(answer->items(2).error().message(), HasSubstr("no face"));
}

TEST(RemoteReward, DoesNotAskAgainForWhatCanNeverBeScored) {
  const FakeRewardService service(
      Scoring([](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        for (int i = 0; i < request.items_size(); ++i) {
          v1::RewardError& error = *response->add_items()->mutable_error();
          error.set_kind(v1::RewardError::INVALID_INPUT);
          error.set_message("no label");
        }
        return absl::OkStatus();
      }));
  const auto answer = ScoreWith(OptionsOf({service.address()}), "ab");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(service.num_calls(), 1);
  EXPECT_THAT(answer->items(1).error().message(), HasSubstr("no label"));
}

TEST(RemoteReward, RefusesAnswersThatDoNotFit) {
  const auto error_of = [](const std::function<void(v1::ScoreResponse*)>& change) {
    const FakeRewardService service(
        Scoring([&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
          const absl::Status status = FakeRewardService::FirstByte(request, response);
          change(response);
          return status;
        }));
    return ErrorOf(OptionsOf({service.address()}));
  };
  EXPECT_THAT(error_of([](auto* response) { response->mutable_items()->RemoveLast(); }),
              HasSubstr("1 items for 2 images"));
  EXPECT_THAT(error_of([](auto* response) { response->set_version("2"); }),
              AllOf(HasSubstr("version is '2' and was ''"), HasSubstr("submit the job anew")));
  EXPECT_THAT(error_of([](auto* response) { response->set_part_names(0, "Two Words"); }),
              HasSubstr("'Two Words'"));
  EXPECT_THAT(error_of([](auto* response) { response->add_part_names("more"); }),
              HasSubstr("1 parts of 2"));
  EXPECT_THAT(error_of([](auto* response) {
                response->mutable_items(0)->mutable_error()->set_message(
                    std::string(size_t{64} << 20, 'x'));
              }),
              AllOf(HasSubstr("larger than 16 MiB"), HasSubstr("a few parts")));
}

TEST(RemoteReward, PartsStayTheSame) {
  std::atomic<int> calls = 0;
  const FakeRewardService service(
      Scoring([&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
        const absl::Status status = FakeRewardService::FirstByte(request, response);
        if (calls++ > 0) response->set_part_names(0, "thrice");
        return status;
      }));
  const auto reward = RemoteReward::Make(OptionsOf({service.address()}), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  const auto never = steady_clock::time_point::max();
  ASSERT_TRUE(reward->Start(BatchOf("a"))->Wait(never, kNoWatch).ok());
  EXPECT_THAT(std::string(reward->Start(BatchOf("a"))->Wait(never, kNoWatch).status().message()),
              HasSubstr("its parts are thrice, and were twice"));
}

TEST(RemoteReward, NamesTheLimitOfTheServersMessages) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.max_request_bytes = 100;
  const FakeRewardService service(behaviour);
  const auto answer = ScoreWith(OptionsOf({service.address()}), std::string(200, 'a'));
  EXPECT_THAT(std::string(answer.status().message()),
              AllOf(HasSubstr("maximum message size"), HasSubstr("max_batch")));
}

TEST(RemoteReward, RefusesAnotherVersionOfTheApi) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_api_version(7);
  const FakeRewardService service(behaviour);
  EXPECT_THAT(ErrorOf(OptionsOf({service.address()})),
              AllOf(HasSubstr("speaks version 7"), HasSubstr("this service version 1")));
}

TEST(RemoteReward, SendsTheToken) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.token = "secret";
  const FakeRewardService service(behaviour);
  RemoteRewardOptions options = OptionsOf({service.address()});
  EXPECT_THAT(ErrorOf(options), AllOf(HasSubstr("wrong token"), HasSubstr("`token_file`")));
  options.token = "secret";
  EXPECT_TRUE(ScoreWith(options, "a").ok());
}

TEST(RemoteReward, ReplicasStandInForEachOther) {
  const FakeRewardService first, second;
  const auto reward = RemoteReward::Make(OptionsOf({first.address(), second.address()}), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  const auto never = steady_clock::time_point::max();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(reward->Start(BatchOf("a"))->Wait(never, kNoWatch)->items(0).value(), 'a');
  }
  EXPECT_EQ(first.num_calls(), 2);
  EXPECT_EQ(second.num_calls(), 2);
}

TEST(RemoteReward, GoesOnWithTheReplicasThatAreLeft) {
  auto first = std::make_unique<FakeRewardService>();
  const FakeRewardService second;
  const auto reward = RemoteReward::Make(OptionsOf({first->address(), second.address()}), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  first.reset();
  const auto never = steady_clock::time_point::max();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(reward->Start(BatchOf("a"))->Wait(never, kNoWatch)->items(0).value(), 'a');
  }
  EXPECT_EQ(second.num_calls(), 3);
}

TEST(RemoteReward, ReplicasHaveToBeAlike) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_version("other");
  const FakeRewardService first, second(behaviour);
  EXPECT_THAT(ErrorOf(OptionsOf({first.address(), second.address()})),
              HasSubstr("all replicas must be alike"));
}

TEST(RemoteReward, WaitsForAServiceThatIsAway) {
  auto service = std::make_unique<FakeRewardService>();
  const int port = service->port();
  const auto reward = RemoteReward::Make(OptionsOf({service->address()}), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  service.reset();
  std::vector<std::string> told;
  const WaitWatch watch = [&](const std::string& waiting_for) {
    if (told.empty() || told.back() != waiting_for) told.push_back(waiting_for);
    if (!waiting_for.empty() && service == nullptr) {
      service = std::make_unique<FakeRewardService>(FakeRewardService::Behaviour{
          .description = FakeRewardService::Describes(), .port = port});
    }
    return absl::OkStatus();
  };
  const auto answer = reward->Start(BatchOf("a"))->Wait(steady_clock::time_point::max(), watch);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->items(0).value(), 'a');
  ASSERT_GE(told.size(), 2U);
  EXPECT_EQ(told.back(), "");
  EXPECT_THAT(told[told.size() - 2],
              AllOf(HasSubstr("reward service 'taste'"), HasSubstr(service->address()),
                    HasSubstr("since 20"), HasSubstr("refused")));
}

TEST(RemoteReward, WaitsNoLongerThanItMay) {
  RemoteRewardOptions options;
  {
    const FakeRewardService service;
    options = OptionsOf({service.address()});
  }
  options.max_outage = milliseconds(700);
  const auto start = steady_clock::now();
  const absl::Status status = ScoreWith(options, "a").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("max_outage_seconds"), HasSubstr("connection refused")));
  EXPECT_THAT(PausesJobFor(status),
              Optional(AllOf(HasSubstr("reward service 'taste' ("), HasSubstr("since 20"),
                             HasSubstr("connection refused"))));
  EXPECT_GE(steady_clock::now() - start, milliseconds(700));
}

TEST(RemoteReward, TheWatchEndsAWait) {
  RemoteRewardOptions options;
  {
    const FakeRewardService service;
    options = OptionsOf({service.address()});
  }
  EXPECT_TRUE(absl::IsCancelled(ScoreWith(options, "a", [](const std::string& waiting_for) {
                                  return waiting_for.empty() ? absl::OkStatus()
                                                             : absl::CancelledError("stop");
                                }).status()));
}

TEST(RemoteReward, AServiceThatIsTooSlowButHealthyIsAFault) {
  absl::Notification end;
  const FakeRewardService service(Scoring([&](const auto&, auto*) {
    end.WaitForNotificationWithTimeout(absl::Seconds(30));
    return absl::OkStatus();
  }));
  RemoteRewardOptions options = OptionsOf({service.address()});
  options.timeout = milliseconds(200);
  options.max_retries = 1;
  EXPECT_THAT(ErrorOf(options),
              AllOf(HasSubstr("no answer within 200ms"), HasSubstr("although it is healthy"),
                    HasSubstr("`timeout_seconds`"), HasSubstr("2 tries")));
  end.Notify();
}

TEST(RemoteReward, ABatchThatIsGivenUpIsNotWaitedFor) {
  absl::Notification arrived, end;
  const FakeRewardService service(Scoring([&](const auto&, auto*) {
    arrived.Notify();
    end.WaitForNotificationWithTimeout(absl::Seconds(30));
    return absl::OkStatus();
  }));
  auto reward = RemoteReward::Make(OptionsOf({service.address()}), kClock);
  ASSERT_TRUE(reward->Connect(kNoWatch).ok());
  auto call = reward->Start(BatchOf("a"));
  arrived.WaitForNotification();
  const auto start = steady_clock::now();
  call.reset();
  reward.reset();
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(5));
  end.Notify();
}

}  // namespace
}  // namespace imageddpo

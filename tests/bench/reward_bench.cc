// What a reward service costs a job, with a service that scores at once or after a while:
//   reward_bench call      milliseconds of a batch of 8 images of 512x512 pixels, from Start() to
//   its
//                          scores, as JSON
//   reward_bench serve S   serves on a free port, whose address it prints, until its input ends;
//   each
//                          batch takes S seconds

#include <ATen/ops/rand.h>
#include <absl/strings/numbers.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "rollout/reward/service_reward.h"
#include "tests/unit/reward/remote/fake_reward_service.h"

namespace imageddpo {
namespace {

constexpr int kImages = 8;
constexpr int kSide = 512;
constexpr int kCalls = 40;

int Call() {
  const FakeRewardService service;
  RewardConfig config;
  config.type = RewardType::kService;
  config.name = "bench";
  config.service.endpoints = {*Address::Parse(service.address())};
  const auto reward = ServiceReward::Make(config, {});
  if (!reward.ok()) {
    std::cerr << "reward_bench: " << reward.status() << "\n";
    return 1;
  }
  auto batch = std::make_shared<RewardBatch>();
  batch->generated_BCHW = at::rand({kImages, 3, kSide, kSide});
  batch->inputs_BCHW = batch->generated_BCHW;
  batch->prompts.resize(kImages);
  batch->examples.resize(kImages);
  std::vector<double> milliseconds;
  for (int i = 0; i < kCalls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto output = Score(reward->get(), batch);
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    if (!output.ok()) {
      std::cerr << "reward_bench: " << output.status() << "\n";
      return 1;
    }
    if (i > 0) milliseconds.push_back(taken.count());  // The first call connects.
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::cout << nlohmann::json{{"images", kImages},
                              {"side", kSide},
                              {"call_milliseconds", milliseconds[milliseconds.size() / 2]},
                              {"least_milliseconds", milliseconds.front()}}
                   .dump()
            << std::endl;
  return 0;
}

int Serve(double seconds) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.score = [seconds](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    absl::SleepFor(absl::Seconds(seconds));
    return FakeRewardService::FirstByte(request, response);
  };
  const FakeRewardService service(behaviour);
  std::cout << service.address() << std::endl;
  std::cin.ignore(std::numeric_limits<std::streamsize>::max());
  return 0;
}

int Main(const std::vector<std::string>& arguments) {
  double seconds = 0;
  if (arguments.size() == 1 && arguments[0] == "call") return Call();
  if (arguments.size() == 2 && arguments[0] == "serve" &&
      absl::SimpleAtod(arguments[1], &seconds)) {
    return Serve(seconds);
  }
  std::cerr << "usage: reward_bench call | serve SECONDS\n";
  return 2;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) { return imageddpo::Main({argv + 1, argv + argc}); }

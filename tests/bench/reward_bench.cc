// What a reward service costs a job, with a service that scores at once or after a while:
//   reward_bench call      milliseconds of a batch of 8 images of 512x512 pixels, from Start() to
//                          its scores, and of its parts, as JSON
//   reward_bench serve S   serves on a free port, whose address it prints, until its input ends;
//                          each batch takes S seconds

#include <ATen/ops/rand.h>
#include <absl/strings/numbers.h>
#include <absl/time/clock.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "rollout/reward/pixel_bytes.h"
#include "rollout/reward/remote/remote_reward.h"
#include "rollout/reward/service_reward.h"
#include "tests/unit/reward/remote/fake_reward_service.h"

namespace imageddpo {
namespace {

constexpr int kImages = 8;
constexpr int kSide = 512;
constexpr int kCalls = 40;

/// The milliseconds of each of some calls, sorted. The first is left out: it connects.
absl::StatusOr<std::vector<double>> Timed(const std::function<absl::Status()>& call) {
  std::vector<double> milliseconds;
  for (int i = 0; i < kCalls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    IMAGEDDPO_RETURN_IF_ERROR(call());
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    if (i > 0) milliseconds.push_back(taken.count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  return milliseconds;
}

/// A batch whose bytes are ready.
RemoteBatch Ready(const SharedBytes& generated) {
  RemoteBatch batch;
  batch.request.set_height(kSide);
  batch.request.set_width(kSide);
  for (int i = 0; i < kImages; ++i) batch.request.add_items()->set_id("image");
  batch.generated = generated;
  return batch;
}

/// What a call takes, and its two parts: the conversion of the pixels, which is ours, and all that
/// gRPC, the system and the service do with bytes that are ready.
absl::StatusOr<nlohmann::json> Call() {
  const FakeRewardService service;
  RewardConfig config;
  config.type = RewardType::kService;
  config.name = "bench";
  config.service.endpoints = {*Address::Parse(service.address())};
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto reward, ServiceReward::Make(config, {}));
  auto batch = std::make_shared<RewardBatch>();
  batch->generated_BCHW = at::rand({kImages, 3, kSide, kSide});
  batch->inputs_BCHW = batch->generated_BCHW;
  batch->prompts.resize(kImages);
  batch->examples.resize(kImages);
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<double> whole,
                             Timed([&] { return Score(reward.get(), batch).status(); }));

  std::vector<bool> finite_B;
  SharedBytes bytes;
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<double> convert, Timed([&] {
                               bytes = PixelBytes(batch->generated_BCHW, v1::RGB_UINT8, &finite_B);
                               return absl::OkStatus();
                             }));

  const SystemClock clock;
  const WaitWatch no_watch = [](const std::string&) { return absl::OkStatus(); };
  const auto remote =
      RemoteReward::Make({.name = config.name, .endpoints = config.service.endpoints}, clock);
  IMAGEDDPO_RETURN_IF_ERROR(remote->Connect(no_watch).status());
  const auto never = std::chrono::steady_clock::time_point::max();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<double> transport, Timed([&] {
                               return remote->Start(Ready(bytes))->Wait(never, no_watch).status();
                             }));
  const auto median = [](const std::vector<double>& sorted) { return sorted[sorted.size() / 2]; };
  return nlohmann::json{{"images", kImages},
                        {"side", kSide},
                        {"call_milliseconds", median(whole)},
                        {"least_milliseconds", whole.front()},
                        {"convert_milliseconds", median(convert)},
                        {"transport_milliseconds", median(transport)}};
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
  if (arguments.size() == 1 && arguments[0] == "call") {
    const absl::StatusOr<nlohmann::json> result = Call();
    if (!result.ok()) {
      std::cerr << "reward_bench: " << result.status() << "\n";
      return 1;
    }
    std::cout << result->dump() << std::endl;
    return 0;
  }
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

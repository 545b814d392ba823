#include "rollout/reward/service_reward.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "rollout/reward/pixel_bytes.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/reward/remote/fake_reward_service.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

RewardConfig ServiceConfig(const FakeRewardService& service) {
  RewardConfig config;
  config.type = RewardType::kService;
  config.name = "taste";
  config.service.endpoints = {*Address::Parse(service.address())};
  return config;
}

/// A folder with one grey image, labelled 3.
class ServiceRewardTest : public ::testing::Test {
 protected:
  ServiceRewardTest() {
    EXPECT_TRUE(WritePng(dir_ / "a.png", {4, 4, std::vector<uint8_t>(48, 100)}).ok());
    EXPECT_TRUE(WritePng(dir_ / "b.png", {4, 4, std::vector<uint8_t>(48, 9)}).ok());
    dir_.Write("metadata.jsonl",
               "{\"file_name\": \"a.png\", \"target_file_name\": \"b.png\", \"label\": 3, "
               "\"artist\": \"me\"}\n");
  }

  /// Connected to the service.
  std::unique_ptr<Reward> Connected(const RewardConfig& config, const RewardHost& host = {}) {
    auto reward = ServiceReward::Make(config, host);
    EXPECT_TRUE(reward.ok()) << reward.status();
    const absl::Status checked = (*reward)->CheckDataset(*Dataset::Open(dir_.path()), 4, 4);
    EXPECT_TRUE(checked.ok()) << checked;
    return *std::move(reward);
  }

  TempDir dir_;
};

std::shared_ptr<RewardBatch> Greys(const std::vector<float>& levels) {
  auto batch = BlackImages(static_cast<int64_t>(levels.size()));
  for (size_t i = 0; i < levels.size(); ++i) {
    batch->generated_BCHW[static_cast<int64_t>(i)].fill_(levels[i]);
  }
  return batch;
}

TEST(PixelBytes, RoundsAsPicturesAreRounded) {
  const at::Tensor image_BCHW =
      at::arange(3 * 100 * 100, at::kFloat).div(29000.0).sub(0.01).reshape({1, 3, 100, 100});
  image_BCHW[0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  image_BCHW[0][0][0][1] = 0.5F / 255.0F;
  image_BCHW[0][0][0][2] = 1.5F / 255.0F;
  const SharedBytes bytes = PixelBytes(image_BCHW, v1::RGB_UINT8);
  const Image expected = TensorToImage(image_BCHW[0]);
  ASSERT_EQ(bytes.bytes.size(), expected.rgb.size());
  for (size_t pixel = 0; pixel < 10000; ++pixel) {
    for (size_t channel = 0; channel < 3; ++channel) {
      ASSERT_EQ(static_cast<uint8_t>(bytes.bytes[channel * 10000 + pixel]),
                expected.rgb[pixel * 3 + channel])
          << pixel;
    }
  }
}

TEST(PixelBytes, FindsTheImagesWhoseValuesAreNotFinite) {
  for (const int64_t width : {1, 5, 16, 37}) {
    const at::Tensor images_BCHW = at::full({4, 3, 9, width}, 0.5F, at::kFloat);
    images_BCHW[1][2][8][width - 1] = std::numeric_limits<float>::quiet_NaN();
    images_BCHW[3][0][0][0] = -std::numeric_limits<float>::infinity();
    images_BCHW[0][0][0][0] = -std::numeric_limits<float>::max();
    for (const v1::PixelEncoding encoding : {v1::RGB_UINT8, v1::RGB_FLOAT32}) {
      std::vector<bool> finite_B;
      PixelBytes(images_BCHW, encoding, &finite_B);
      EXPECT_THAT(finite_B, ElementsAre(true, false, true, false)) << width << " " << encoding;
    }
  }
}

TEST(PixelBytes, FloatsAreSentFromTheTensor) {
  const at::Tensor image_BCHW = at::full({1, 3, 2, 2}, 0.1F, at::kFloat);
  const SharedBytes bytes = PixelBytes(image_BCHW, v1::RGB_FLOAT32);
  EXPECT_EQ(bytes.bytes.data(), image_BCHW.const_data_ptr());
  EXPECT_EQ(bytes.bytes.size(), 48U);
}

TEST_F(ServiceRewardTest, ScoresInOrder) {
  const FakeRewardService service;
  const auto output = Score(Connected(ServiceConfig(service)).get(), Greys({1.0F, 0.0F, 0.2F}));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(255, 0, 51));
  EXPECT_THAT(output->parts.at("twice"), ElementsAre(510, 0, 102));
}

TEST_F(ServiceRewardTest, DataWithoutTheTargetsThatAreWantedIsRefused) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_wants_targets(true);
  const FakeRewardService service(behaviour);
  EXPECT_TRUE(Connected(ServiceConfig(service))->wants().targets);
  dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\"}\n");
  auto reward = ServiceReward::Make(ServiceConfig(service), {});
  ASSERT_TRUE(reward.ok()) << reward.status();
  const absl::Status status = (*reward)->CheckDataset(*Dataset::Open(dir_.path()), 4, 4);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr("'a.png'"), HasSubstr("no target image")));
}

TEST_F(ServiceRewardTest, SendsWhatIsWanted) {
  absl::Mutex mutex;
  std::vector<v1::ScoreRequest> requests;
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.score = [&](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    const absl::MutexLock lock(&mutex);
    requests.push_back(request);
    return FakeRewardService::FirstByte(request, response);
  };
  {
    const FakeRewardService service(behaviour);
    Connected(ServiceConfig(service));  // Scores the probe.
    behaviour.description.set_wants_inputs(true);
    behaviour.description.set_wants_targets(true);
    behaviour.description.set_wants_labels(true);
    behaviour.description.set_wants_metadata(true);
  }
  {
    const FakeRewardService service(behaviour);
    Connected(ServiceConfig(service));
  }
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].inputs(), "");
  EXPECT_EQ(requests[0].targets(), "");
  EXPECT_FALSE(requests[0].items(0).has_label());
  EXPECT_EQ(requests[0].items(0).metadata_json(), "");
  EXPECT_EQ(requests[1].inputs(), std::string(48, 100));
  EXPECT_EQ(requests[1].generated(), std::string(48, 100));
  EXPECT_EQ(requests[1].targets(), std::string(48, 9));
  EXPECT_EQ(requests[1].items(0).label(), 3);
  EXPECT_EQ(requests[1].items(0).id(), "a.png");
  EXPECT_EQ(requests[1].items(0).metadata_json(), "{\"artist\":\"me\"}");
}

TEST_F(ServiceRewardTest, SendsPngFiles) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_pixels(v1::PNG);
  behaviour.score = [](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    for (const std::string& png : request.generated_png()) {
      const absl::StatusOr<Image> image = DecodeImage(png, "it");
      if (!image.ok()) return image.status();
      response->add_items()->set_value(image->rgb[0]);
    }
    return absl::OkStatus();
  };
  const FakeRewardService service(behaviour);
  const auto output = Score(Connected(ServiceConfig(service)).get(), Greys({0.2F, 1.0F}));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(51, 255));
}

TEST_F(ServiceRewardTest, LargeBatchesAreSentInPieces) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_max_batch(2);
  const FakeRewardService service(behaviour);
  const auto reward = Connected(ServiceConfig(service));
  const int before = service.num_calls();
  const auto output = Score(reward.get(), Greys({0.0F, 0.2F, 0.4F, 0.6F, 1.0F}));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(ValuesOf(*output), ElementsAre(0, 51, 102, 153, 255));
  EXPECT_EQ(service.num_calls() - before, 3);
}

TEST_F(ServiceRewardTest, AnItemsErrorIsItsOwn) {
  const FakeRewardService service(
      {.description = FakeRewardService::Describes(),
       .score = [](const auto& request, auto* response) {
         const absl::Status status = FakeRewardService::FirstByte(request, response);
         if (request.items_size() < 2) return status;
         response->mutable_items(1)->clear_value();
         response->mutable_items(1)->clear_parts();
         response->mutable_items(1)->mutable_error()->set_message("odd");
         return status;
       }});
  RewardConfig config = ServiceConfig(service);
  config.service.max_retries = 0;
  const auto batch = Greys({0.2F, 0.4F, std::numeric_limits<float>::quiet_NaN()});
  const auto output = Score(Connected(config).get(), batch);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->values_B[0].value(), 51);
  EXPECT_THAT(output->values_B[1].status().message(),
              AllOf(HasSubstr(service.address()), HasSubstr("odd")));
  EXPECT_TRUE(absl::IsOutOfRange(output->values_B[2].status()));
  ASSERT_EQ(output->parts.at("twice").size(), 3U);
  EXPECT_TRUE(std::isnan(output->parts.at("twice")[1]));
}

TEST_F(ServiceRewardTest, ItemsThatAreToBeDroppedHaveErrorsAndAllParts) {
  EXPECT_TRUE(WritePng(dir_ / "c.png", {4, 4, std::vector<uint8_t>(48, 7)}).ok());
  dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\"}\n{\"file_name\": \"c.png\"}\n");
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_max_batch(1);
  behaviour.score = [](const v1::ScoreRequest& request, v1::ScoreResponse* response) {
    const auto first = static_cast<unsigned char>(request.generated()[0]);
    if (first < 50) return absl::InternalError("too dark");
    return FakeRewardService::FirstByte(request, response);
  };
  const FakeRewardService service(behaviour);
  RewardConfig config = ServiceConfig(service);
  config.service.max_retries = 0;
  config.on_error = OnRewardError::kDrop;
  const auto reward = Connected(config);  // In spite of c.png.
  const auto output = Score(reward.get(), Greys({0.1F, 0.4F, 0.0F}));
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(output->values_B[0].status().message(),
              AllOf(HasSubstr(service.address()), HasSubstr("too dark")));
  EXPECT_EQ(output->values_B[1].value(), 102);
  EXPECT_FALSE(output->values_B[2].ok());
  const auto none = Score(reward.get(), Greys({0.0F, 0.1F}));
  ASSERT_TRUE(none.ok()) << none.status();
  ASSERT_EQ(none->parts.at("twice").size(), 2U);
  EXPECT_TRUE(std::isnan(none->parts.at("twice")[1]));

  dir_.Write("metadata.jsonl", "{\"file_name\": \"c.png\"}\n");
  const auto refused = ServiceReward::Make(config, {});
  EXPECT_THAT((*refused)->CheckDataset(*Dataset::Open(dir_.path()), 4, 4).message(),
              AllOf(HasSubstr("'c.png'"), HasSubstr("too dark")));
}

TEST_F(ServiceRewardTest, TheProbeFindsARewardThatFails) {
  const FakeRewardService service(
      {.description = FakeRewardService::Describes(),
       .score = [](const auto&, auto*) { return absl::InternalError("KeyError: 'artist'"); }});
  RewardConfig config = ServiceConfig(service);
  config.service.max_retries = 0;
  const auto reward = ServiceReward::Make(config, {});
  const absl::Status status = (*reward)->CheckDataset(*Dataset::Open(dir_.path()), 4, 4);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("KeyError: 'artist'"));
}

TEST_F(ServiceRewardTest, WarnsOfScoresThatChange) {
  FakeRewardService::Behaviour behaviour{.description = FakeRewardService::Describes()};
  behaviour.description.set_nondeterministic(true);
  const FakeRewardService service(behaviour);
  std::string warned;
  RewardHost host;
  host.warn = [&](const std::string& warning) { warned = warning; };
  Connected(ServiceConfig(service), host);
  EXPECT_THAT(warned, HasSubstr("differently"));
}

TEST(ServiceReward, NamesFilesThatItCannotUse) {
  RewardConfig config;
  config.service.token_file = "none.txt";
  EXPECT_THAT(ServiceReward::Make(config, {}).status().message(),
              AllOf(HasSubstr("rewards.token_file"), HasSubstr("none.txt")));
  const TempDir dir;
  config.service.token_file = dir.Write("token", "two words\n");
  EXPECT_THAT(ServiceReward::Make(config, {}).status().message(), HasSubstr("more than one token"));
}

}  // namespace
}  // namespace imageddpo

// The images of a rollout rank: which it uses, what it says of them, when it looks at their pixels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "rollout/data/corrupt/corrupt.h"
#include "tests/testing/npy.h"
#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RolloutDataTest : public RolloutFixture {
 protected:
  absl::StatusOr<std::unique_ptr<Rollout>> Open(const DataStart& start = {},
                                                RolloutShare share = {}) {
    return Rollout::Create(Judged(job_), &pipeline_, *MakeJobReward(Judged(job_), at::kCPU),
                           at::kCPU, share, kRewardTimeout, start);
  }
  std::string Error(const DataStart& start = {}) {
    return std::string(Open(start).status().message());
  }
  /// A PNG with a good head and nothing behind it.
  void Cut(const std::string& name) { dir_.Write(name, dir_.Read(name).substr(0, 60)); }

  Pipeline pipeline_ = LoadModel();
};

TEST_F(RolloutDataTest, BadHeadsAreNamedBeforeAnythingIsSampled) {
  dir_.Write("data/1.png", "text");
  dir_.Write("data/4.png", "");
  EXPECT_THAT(Error(), AllOf(HasSubstr("`data.path`: 2 of 6 images"), HasSubstr("data/1.png"),
                             HasSubstr("data/4.png"), HasSubstr("data.on_error: skip")));
}

TEST_F(RolloutDataTest, KeysThatNeverGetEnoughRewardsAreWarnedOf) {
  job_.set_num_epochs(3);  // Of 6 samples, one of each image.
  job_.mutable_advantage()->set_mode("per_key");
  const auto warnings = [this](int64_t min_count, const std::string& stat_key) {
    job_.mutable_advantage()->set_min_count(min_count);
    job_.mutable_advantage()->set_stat_key(stat_key);
    return (*Open())->data_warnings();
  };
  EXPECT_THAT(warnings(3, "image"), IsEmpty());
  EXPECT_THAT(warnings(4, "image"), Contains(HasSubstr("no key gets more than 3 rewards")));
  EXPECT_THAT(warnings(16, "prompt"), IsEmpty()) << "all have one prompt";
}

TEST_F(RolloutDataTest, OtherFilesOfTheModelAreNoticedWhenTheJobGoesOn) {
  std::filesystem::copy(kModel, dir_ / "model", std::filesystem::copy_options::recursive);
  job_.mutable_model()->set_path(dir_ / "model");
  const auto first = Open();
  ASSERT_TRUE(first.ok()) << first.status();
  const DataStart start{.before = nlohmann::json::parse((*first)->data_report().state()),
                        .is_stopped = {}};
  EXPECT_EQ(start.before.at("inputs").count("unet/config.json"), 1U);
  EXPECT_TRUE(Open(start).ok());
  const std::string config = "model/scheduler/scheduler_config.json";
  dir_.Write(config, dir_.Read(config) + "\n");
  EXPECT_THAT(Error(start), AllOf(HasSubstr("scheduler/scheduler_config.json"),
                                  HasSubstr("`data.allow_change: true`")));
  job_.mutable_data()->set_allow_change(true);
  const auto second = Open(start);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_THAT((*second)->data_warnings(), Contains(HasSubstr("scheduler_config.json; the job goes "
                                                             "on with what is there now")));
  DataStart of_earlier_version = start;
  of_earlier_version.before.erase("inputs");
  job_.mutable_data()->set_allow_change(false);
  EXPECT_TRUE(Open(of_earlier_version).ok());
}

TEST_F(RolloutDataTest, ImagesMayBeWiderThanHigh) {
  job_.mutable_data()->set_width(48);
  job_.mutable_data()->set_height(32);
  job_.mutable_data()->set_resize("pad");
  const auto rollout = Open();
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  const auto batch = Scored((*rollout)->Sample(0, 0, 0, true));
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->latents.size(-2), 8);
  EXPECT_EQ(batch->latents.size(-1), 12);
  const absl::StatusOr<Image> picture = DecodeImage(batch->pictures.at(0).png, "input");
  ASSERT_TRUE(picture.ok()) << picture.status();
  EXPECT_EQ(picture->width, 48);
  EXPECT_EQ(picture->height, 32);
  EXPECT_EQ(picture->rgb[0], 0) << "black beside the square image";
  EXPECT_TRUE(Scored((*rollout)->Evaluate(0, 0)).ok());

  job_.mutable_data()->set_width(46);
  EXPECT_THAT(Error(), AllOf(HasSubstr("46x32"), HasSubstr("multiples of 4")));
}

TEST_F(RolloutDataTest, ACorruptedInputIsTheSameInEveryEpoch) {
  job_.mutable_data()->mutable_corrupt()->set_kind("gaussian_noise");
  const auto rollout = Open();
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  std::map<std::string, std::string> inputs;  // Picture of each image.
  for (int64_t m = 0; m < 4; ++m) {
    const auto batch = Scored((*rollout)->Sample(m / 2, m % 2, 0, true));
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (size_t i = 0; i < batch->image_ids.size(); ++i) {
      const std::string& png = batch->pictures.at(2 * i).png;
      const auto [seen, fresh] = inputs.emplace(batch->image_ids[i], png);
      EXPECT_TRUE(fresh || seen->second == png) << batch->image_ids[i];
      EXPECT_NE(DecodeImage(png, "input")->rgb,
                ReadImage(dir_ / ("data/" + batch->image_ids[i]))->rgb);
    }
  }
  EXPECT_EQ(inputs.size(), 6U);
}

TEST_F(RolloutDataTest, ASeverityIsChosenOfBothSets) {
  std::string pixels;
  for (int i = 0; i < 15; ++i) pixels += std::string(size_t{32} * 32 * 3, static_cast<char>(i));
  const std::string array = Npy("|u1", "(15, 32, 32, 3)", pixels);
  job_.mutable_data()->set_path(dir_.Write("fog.npy", array));
  job_.mutable_eval()->set_path(dir_.Write("snow.npy", array));
  job_.mutable_data()->set_severity(2);
  const auto rollout = Open();
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  EXPECT_EQ((*rollout)->data_report().num_images(), 3);
  EXPECT_EQ(nlohmann::json::parse((*rollout)->data_report().state())["ids"],
            (nlohmann::json{"fog.npy/3", "fog.npy/4", "fog.npy/5"}));
  EXPECT_EQ((*rollout)->num_eval_images(), 3);
  const auto batch = Scored((*rollout)->Evaluate(0, 0));
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->image_ids(0), "snow.npy/3");
  job_.mutable_eval()->set_path(dir_ / "held-out");
  EXPECT_THAT(Error(), AllOf(HasSubstr("`eval.path`: "), HasSubstr("`data.severity`")));
}

TEST_F(RolloutDataTest, TheHeldOutImagesAreCorruptedAsTheOthers) {
  job_.mutable_data()->mutable_corrupt()->set_kind("brightness");
  job_.mutable_data()->mutable_corrupt()->set_severity(5);
  const auto rollout = Open();
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  const auto batch = Scored((*rollout)->Evaluate(0, 0));
  ASSERT_TRUE(batch.ok()) << batch.status();
  const Image clean = *ReadImage(dir_ / ("held-out/" + batch->image_ids(0)));
  const CorruptSettings settings{.kind = CorruptKind::kBrightness, .severity = 5, .seed = 0};
  EXPECT_EQ(DecodeImage(batch->pictures(0).data(), "input")->rgb,
            Corrupt(clean, settings, batch->image_ids(0))->rgb);
}

TEST_F(RolloutDataTest, SkipSamplesFromTheOthers) {
  dir_.Write("data/1.png", "text");
  Cut("data/4.png");
  Cut("held-out/8.png");
  job_.mutable_data()->set_on_error("skip");
  const auto rollout = Open();
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  const v1::DataReport& report = (*rollout)->data_report();
  EXPECT_EQ(report.num_images(), 4);
  EXPECT_EQ(report.num_listed(), 6);
  const auto state = nlohmann::json::parse(report.state());
  EXPECT_EQ(state["skipped"], (nlohmann::json{"1.png", "4.png"}));
  EXPECT_EQ(state["ids"], (nlohmann::json{"0.png", "2.png", "3.png", "5.png"}));
  EXPECT_EQ((*rollout)->num_eval_images(), 3);
  EXPECT_THAT((*rollout)->data_warnings(),
              Contains(AllOf(HasSubstr("`data.path`: 2 of 6 images"), HasSubstr("skipped"))));
  EXPECT_THAT((*rollout)->data_warnings(), Contains(HasSubstr("`eval.path`: 1 of 4 images")));
  for (int64_t m = 0; m < 2; ++m) {
    const auto batch = Scored((*rollout)->Sample(0, m, 0, false));
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (const std::string& id : batch->image_ids) {
      EXPECT_TRUE(id != "1.png" && id != "4.png") << id;
    }
  }
  // Another rank has the same set; the leader needs its text only once.
  const auto other = Open({}, {.index = 1, .num_ranks = 2});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ((*other)->data_report().sha256(), report.sha256());
  EXPECT_EQ((*other)->data_report().state(), "");
}

TEST_F(RolloutDataTest, TheBackgroundFindsABadImageThatIsNotDrawn) {
  Cut("data/4.png");
  const auto rollout = Open();
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while ((*rollout)->DataStatus().ok() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_THAT(std::string((*rollout)->DataStatus().message()),
              AllOf(HasSubstr("1 of 6 images"), HasSubstr("data/4.png")));
}

TEST_F(RolloutDataTest, AJobGoesOnWithTheImagesOfItsCheckpoint) {
  const DataStart start{.before = nlohmann::json::parse((*Open())->data_report().state())};
  EXPECT_EQ(Error(start), "");
  dir_.Write("data/new.png", dir_.Read("data/0.png"));
  EXPECT_THAT(Error(start),
              AllOf(HasSubstr("`data.path`: "), HasSubstr("1 image was added (new.png)")));
  EXPECT_EQ(Error(), "");  // A checkpoint of a version that kept nothing of the images.
  job_.mutable_data()->set_allow_change(true);
  const auto rollout = Open(start);
  ASSERT_TRUE(rollout.ok()) << rollout.status();
  EXPECT_EQ((*rollout)->data_report().num_images(), 7);
  EXPECT_THAT((*rollout)->data_warnings(), Contains(HasSubstr("1 image was added (new.png)")));
}

TEST_F(RolloutDataTest, OneClassHasOneLabel) {
  const std::string png = dir_.Read("data/0.png");
  for (const char* name : {"classes/ant/1.png", "classes/bee/1.png", "classes/cat/1.png",
                           "other/bee/1.png", "other/cat/1.png"}) {
    dir_.Write(name, png);
  }
  job_.mutable_data()->set_path(dir_ / "classes");
  job_.mutable_eval()->set_path(dir_ / "other");
  EXPECT_THAT(Error(), AllOf(HasSubstr("the class 'bee' has the label 0 in `eval.path` and 1 in "
                                       "`data.path`")));
  dir_.Write("other/ant/1.png", png);
  EXPECT_EQ(Error(), "");
}

}  // namespace
}  // namespace imageddpo

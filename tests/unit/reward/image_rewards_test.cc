#include "rollout/reward/image_rewards.h"

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "common/io/safetensors.h"
#include "rollout/reward/image_measures.h"
#include "rollout/reward/make_reward.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Sums of some thousand doubles in another order than numpy's.
constexpr double kBound = 1e-11;

const std::vector<std::string> kPairs = {"unlike", "alike", "equal", "flat", "black", "smallest"};

const SafetensorsFile& Recorded() {
  static const auto file = *SafetensorsFile::Open("tests/data/measures/expected.safetensors");
  return *file;
}

at::Tensor Picture(const std::string& name) { return Recorded().Get(name).value(); }

double Expected(const std::string& name) {
  return Recorded().Get(name).value().const_data_ptr<double>()[0];
}

TEST(ImageMeasures, AreThoseOfScikitImage) {
  const std::map<std::string, double (*)(const at::Tensor&, const at::Tensor&)> distances = {
      {"l1", L1Distance}, {"l2", L2Distance}, {"psnr", Psnr}, {"ssim", Ssim}};
  const std::map<std::string, double (*)(const at::Tensor&)> stats = {
      {"brightness", Brightness},
      {"contrast", Contrast},
      {"saturation", Saturation},
      {"edge_energy", EdgeEnergy},
      {"colour_entropy", ColourEntropy}};
  for (const std::string& pair : kPairs) {
    const at::Tensor a_CHW = Picture(pair + ".a"), b_CHW = Picture(pair + ".b");
    for (const auto& [name, distance] : distances) {
      EXPECT_NEAR(distance(a_CHW, b_CHW), Expected(pair + "." + name), kBound) << pair << name;
    }
    for (const auto& [name, stat] : stats) {
      EXPECT_NEAR(stat(a_CHW), Expected(pair + "." + name), kBound) << pair << name;
    }
  }
}

TEST(ImageMeasures, HaveNoValueWhereAPictureHasNone) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const at::Tensor good_CHW = Picture("alike.b");
    const at::Tensor bad_CHW = good_CHW.clone();
    bad_CHW.select(0, 1).select(0, 3).fill_(bad);
    for (const auto distance : {L1Distance, L2Distance, Psnr, Ssim}) {
      EXPECT_TRUE(std::isnan(distance(good_CHW, bad_CHW)));
      EXPECT_TRUE(std::isnan(distance(bad_CHW, good_CHW)));
    }
    for (const auto stat : {Brightness, Contrast, Saturation, EdgeEnergy, ColourEntropy}) {
      EXPECT_TRUE(std::isnan(stat(bad_CHW)));
    }
  }
}

TEST(ImageMeasures, RefusePicturesThatDoNotFit) {
  const at::Tensor small_CHW = at::zeros({3, 10, 30});
  EXPECT_THROW(Ssim(small_CHW, small_CHW), std::invalid_argument);
  EXPECT_THROW(EdgeEnergy(at::zeros({3, 2, 30})), std::invalid_argument);
  EXPECT_THROW(L1Distance(small_CHW, at::zeros({3, 30, 10})), std::invalid_argument);
  EXPECT_THROW(Brightness(at::zeros({1, 4, 4})), std::invalid_argument);
}

std::unique_ptr<Reward> MakeImageReward(RewardType type, RewardReference reference) {
  RewardConfig config;
  config.type = type;
  config.reference = reference;
  return MakeReward(config, at::kCPU).value();
}

/// The pairs "alike" and "equal": generated a, input b, target black.
std::shared_ptr<RewardBatch> TwoImages() {
  const auto batch =
      MakeBatch(at::stack({Picture("alike.a"), Picture("equal.a")}),
                at::stack({Picture("alike.b"), Picture("equal.b")}), {std::nullopt, std::nullopt});
  batch->targets_BCHW = at::zeros_like(batch->generated_BCHW);
  return batch;
}

TEST(DistanceReward, IsThatToItsReference) {
  for (const RewardType type :
       {RewardType::kL1, RewardType::kL2, RewardType::kPsnr, RewardType::kSsim}) {
    const std::string name(NameOf(type));
    const auto to_input = Score(MakeImageReward(type, RewardReference::kInput).get(), TwoImages());
    ASSERT_TRUE(to_input.ok()) << to_input.status();
    EXPECT_NEAR(ValuesOf(*to_input)[0], Expected("alike." + name), kBound);
    EXPECT_NEAR(ValuesOf(*to_input)[1], Expected("equal." + name), kBound);
    const auto reward = MakeImageReward(type, RewardReference::kTarget);
    EXPECT_TRUE(reward->wants().targets);
    EXPECT_FALSE(MakeImageReward(type, RewardReference::kInput)->wants().targets);
    const auto to_target = Score(reward.get(), TwoImages());
    ASSERT_TRUE(to_target.ok()) << to_target.status();
    EXPECT_NE(ValuesOf(*to_target)[0], ValuesOf(*to_input)[0]);
    EXPECT_NE(ValuesOf(*to_target)[1], ValuesOf(*to_input)[1]);
  }
  const auto output =
      Score(MakeImageReward(RewardType::kL1, RewardReference::kTarget).get(), TwoImages());
  EXPECT_NEAR(ValuesOf(*output)[0], Picture("alike.a").to(at::kDouble).mean().item<double>(),
              kBound);
}

class DatasetOfDistances : public ::testing::Test {
 protected:
  std::string ErrorOf(Reward* reward, const std::string& second_line_end, int side) {
    for (const char* name : {"a.png", "b.png"}) dir_.Write(name, *EncodePng({1, 1, {1, 2, 3}}));
    dir_.Write("metadata.jsonl",
               "{\"file_name\": \"a.png\", \"target_file_name\": \"b.png\"}\n"
               "{\"file_name\": \"b.png\"" +
                   second_line_end + "}");
    const auto dataset = Dataset::Open(dir_.path());
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return std::string(reward->CheckDataset(*dataset, side, side).message());
  }
  TempDir dir_;
};

TEST_F(DatasetOfDistances, NamesTheFirstExampleWithoutATarget) {
  const auto reward = MakeImageReward(RewardType::kL2, RewardReference::kTarget);
  EXPECT_THAT(ErrorOf(reward.get(), "", 32),
              AllOf(HasSubstr("'b.png'"), HasSubstr("no target"), HasSubstr("target_file_name")));
  EXPECT_EQ(ErrorOf(reward.get(), ", \"target_file_name\": \"a.png\"", 32), "");
  EXPECT_EQ(ErrorOf(MakeImageReward(RewardType::kL2, RewardReference::kInput).get(), "", 32), "");
}

TEST_F(DatasetOfDistances, CorruptedImagesHaveTheCleanOnesAsTargets) {
  dir_.Write("a.png", *EncodePng({1, 1, {1, 2, 3}}));
  DatasetOptions options;
  options.form.corrupt = {.kind = CorruptKind::kContrast, .severity = 1, .seed = 0};
  const auto dataset = Dataset::Open(dir_.path(), options);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const auto reward = MakeImageReward(RewardType::kL2, RewardReference::kTarget);
  EXPECT_TRUE(reward->CheckDataset(*dataset, 32, 32).ok());
}

TEST_F(DatasetOfDistances, SmallImagesAreRefused) {
  const auto ssim = MakeImageReward(RewardType::kSsim, RewardReference::kInput);
  EXPECT_THAT(ErrorOf(ssim.get(), "", 10), AllOf(HasSubstr("11x11"), HasSubstr("data.resolution")));
  EXPECT_EQ(ErrorOf(ssim.get(), "", 11), "");
  RewardConfig config;
  config.type = RewardType::kImageStat;
  config.measure = RewardMeasure::kEdgeEnergy;
  ImageStatReward edges(config);
  EXPECT_THAT(ErrorOf(&edges, "", 2), HasSubstr("3x3"));
  EXPECT_EQ(ErrorOf(&edges, "", 3), "");
}

TEST(ImageStatReward, IsItsMeasure) {
  for (const RewardMeasureInfo& info : FindRewardType("image_stat")->measures) {
    RewardConfig config;
    config.type = RewardType::kImageStat;
    config.measure = info.measure;
    const auto output = Score(MakeReward(config, at::kCPU).value().get(), TwoImages());
    ASSERT_TRUE(output.ok()) << output.status();
    const std::string name(info.name);
    EXPECT_NEAR(ValuesOf(*output)[0], Expected("alike." + name), kBound) << name;
    EXPECT_NEAR(ValuesOf(*output)[1], Expected("equal." + name), kBound) << name;
  }
}

TEST(JpegSizes, ArePillows) {
  for (const std::string& pair : kPairs) {
    const at::Tensor sizes = Recorded().Get(pair + ".jpeg").value();
    int64_t i = 0;
    for (const int quality : {1, 10, 50, 75, 90, 95, 100}) {
      RewardConfig config;
      config.measure = RewardMeasure::kIncompressibility;
      config.jpeg_quality = quality;
      const at::Tensor image_BCHW = Picture(pair + ".a").unsqueeze(0);
      const auto output = Score(MakeReward(config, at::kCPU).value().get(),
                                MakeBatch(image_BCHW, image_BCHW, {std::nullopt}));
      ASSERT_TRUE(output.ok()) << output.status();
      EXPECT_EQ(output->parts.at("bytes")[0],
                static_cast<double>(sizes.const_data_ptr<int64_t>()[i++]))
          << pair << " at quality " << quality;
    }
  }
}

}  // namespace
}  // namespace imageddpo

#include "rollout/reward/jpeg_reward.h"

#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "common/io/safetensors.h"
#include "tests/unit/reward/reward_inputs.h"

namespace imageddpo {
namespace {

RewardConfig JpegConfig(RewardMeasure measure) {
  RewardConfig config;
  config.type = RewardType::kJpeg;
  config.measure = measure;
  return config;
}

/// PIL's size, at quality 95, of the stored image.
double PilBytes(const SafetensorsFile& file, const std::string& name) {
  return static_cast<double>(file.Get("jpeg." + name + ".bytes")->const_data_ptr<int64_t>()[2]);
}

/// The stored picture-like image [3,64,64] and one of the same size and a single colour.
class JpegRewardTest : public ::testing::Test {
 protected:
  JpegRewardTest()
      : file_(*SafetensorsFile::Open("tests/data/images/expected.safetensors")),
        batch_(MakeBatch(Images(), at::zeros({2, 3, 64, 64}), {std::nullopt, std::nullopt})) {}

  at::Tensor Images() const {
    const at::Tensor picture =
        file_->Get("jpeg.smooth.image")->to(at::kFloat).div(255).permute({2, 0, 1});
    return at::stack({picture, picture.mul(0).add(0.5)});
  }

  std::shared_ptr<const SafetensorsFile> file_;
  absl::StatusOr<RewardOutput> ScoreWith(const RewardConfig& config) {
    JpegReward reward(config);
    return Score(&reward, batch_);
  }

  std::shared_ptr<RewardBatch> batch_;
};

TEST_F(JpegRewardTest, IsMinusPilsKilobytes) {
  const auto output = ScoreWith(JpegConfig(RewardMeasure::kCompressibility));
  ASSERT_TRUE(output.ok()) << output.status();
  const std::vector<double> values = ValuesOf(*output);
  const std::vector<double> bytes = output->parts.at("bytes");
  EXPECT_EQ(bytes[0], PilBytes(*file_, "smooth"));
  EXPECT_DOUBLE_EQ(values[0], -bytes[0] / 1000);
  EXPECT_GT(values[1], values[0]);  // One colour compresses better.
}

TEST_F(JpegRewardTest, IncompressibilityHasTheOtherSign) {
  const auto small = ScoreWith(JpegConfig(RewardMeasure::kCompressibility));
  const auto large = ScoreWith(JpegConfig(RewardMeasure::kIncompressibility));
  EXPECT_EQ(ValuesOf(*small)[0], -ValuesOf(*large)[0]);
  EXPECT_GT(ValuesOf(*large)[0], 0);
}

TEST_F(JpegRewardTest, UsesItsSettings) {
  RewardConfig config = JpegConfig(RewardMeasure::kIncompressibility);
  const double at_95 = ValuesOf(*ScoreWith(config))[0];
  config.jpeg_quality = 10;
  EXPECT_LT(ValuesOf(*ScoreWith(config))[0], at_95);
}

TEST_F(JpegRewardTest, AnImageWithNanHasNoValue) {
  batch_->generated_BCHW.select(0, 1).fill_(std::nan(""));
  const auto output = ScoreWith(JpegConfig(RewardMeasure::kCompressibility));
  ASSERT_TRUE(output.ok());
  EXPECT_TRUE(std::isfinite(ValuesOf(*output)[0]));
  EXPECT_TRUE(std::isnan(ValuesOf(*output)[1]));
}

}  // namespace
}  // namespace imageddpo

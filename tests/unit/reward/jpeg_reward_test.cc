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

RewardConfig ConfigOf(const std::string& measure) {
  RewardConfig config;
  config.type = "jpeg";
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
        batch_(Images(), at::zeros({2, 3, 64, 64}), {std::nullopt, std::nullopt}) {}

  at::Tensor Images() const {
    const at::Tensor picture =
        file_->Get("jpeg.smooth.image")->to(at::kFloat).div(255).permute({2, 0, 1});
    return at::stack({picture, picture.mul(0).add(0.5)});
  }

  std::shared_ptr<const SafetensorsFile> file_;
  Batch batch_;
};

TEST_F(JpegRewardTest, IsMinusPilsKilobytes) {
  const auto output = JpegReward(ConfigOf("compressibility")).Score(batch_.inputs());
  ASSERT_TRUE(output.ok()) << output.status();
  const std::vector<double> values = ToVector(output->values_B);
  const std::vector<double> bytes = ToVector(output->parts.at("bytes"));
  EXPECT_NEAR(bytes[0], PilBytes(*file_, "smooth"), 4);
  EXPECT_DOUBLE_EQ(values[0], -bytes[0] / 1000);
  EXPECT_GT(values[1], values[0]);  // One colour compresses better.
}

TEST_F(JpegRewardTest, IncompressibilityHasTheOtherSign) {
  const auto small = JpegReward(ConfigOf("compressibility")).Score(batch_.inputs());
  const auto large = JpegReward(ConfigOf("incompressibility")).Score(batch_.inputs());
  EXPECT_EQ(ToVector(small->values_B)[0], -ToVector(large->values_B)[0]);
  EXPECT_GT(ToVector(large->values_B)[0], 0);
}

TEST_F(JpegRewardTest, UsesItsSettings) {
  RewardConfig config = ConfigOf("incompressibility");
  const double at_95 = ToVector(JpegReward(config).Score(batch_.inputs())->values_B)[0];
  config.jpeg_quality = 10;
  EXPECT_LT(ToVector(JpegReward(config).Score(batch_.inputs())->values_B)[0], at_95);
  config.clamp = 0.25;
  EXPECT_EQ(ToVector(JpegReward(config).Score(batch_.inputs())->values_B)[0], 0.25);
}

TEST_F(JpegRewardTest, AnImageWithNanHasNoValue) {
  batch_.inputs().generated_BCHW.select(0, 1).fill_(std::nan(""));
  const auto output = JpegReward(ConfigOf("compressibility")).Score(batch_.inputs());
  ASSERT_TRUE(output.ok());
  EXPECT_TRUE(std::isfinite(ToVector(output->values_B)[0]));
  EXPECT_TRUE(std::isnan(ToVector(output->values_B)[1]));
}

}  // namespace
}  // namespace imageddpo

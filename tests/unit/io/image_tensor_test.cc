#include "common/io/image_tensor.h"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>
#include <vector>

namespace imageddpo {
namespace {

TEST(ImageTensorTest, AllBytesGoRoundExactly) {
  Image image{16, 16, {}};
  for (int i = 0; i < 256; ++i) {
    for (int channel = 0; channel < 3; ++channel) {
      image.rgb.push_back(static_cast<uint8_t>(i ^ (channel * 85)));
    }
  }
  const at::Tensor tensor_CHW = ImageToTensor(image);
  EXPECT_EQ(tensor_CHW.sizes(), (at::IntArrayRef{3, 16, 16}));
  EXPECT_EQ(tensor_CHW.scalar_type(), at::kFloat);
  EXPECT_EQ(TensorToImage(tensor_CHW).rgb, image.rgb);
}

TEST(ImageTensorTest, PutsChannelsAndRowsInTheirPlaces) {
  const Image image{2, 1, {0, 51, 102, 153, 204, 255}};
  const at::Tensor tensor_CHW = ImageToTensor(image);
  const auto* values = tensor_CHW.const_data_ptr<float>();
  const std::vector<float> expected = {0.0F, 0.6F, 0.2F, 0.8F, 0.4F, 1.0F};
  for (size_t i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(values[i], expected[i]) << i;
}

TEST(ImageTensorTest, RoundsHalvesToEvenAndClamps) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  // 0.5/255 and 2.5/255 times 255 are 0.5 and 2.5 in float32.
  const at::Tensor tensor_CHW = at::tensor({0.5F / 255, 2.5F / 255, 1.5F / 255, -0.3F, 1.7F, 0.999F,
                                            nan, infinity, -infinity},
                                           at::kFloat)
                                    .reshape({3, 1, 3});
  const Image image = TensorToImage(tensor_CHW);
  EXPECT_EQ(image.rgb, (std::vector<uint8_t>{0, 0, 0,      // Pixel 0: 0.5, -0.3, NaN.
                                             2, 255, 255,  // Pixel 1: 2.5, 1.7, infinity.
                                             2, 255, 0}));
}

TEST(ImageTensorTest, TakesOtherTypesAndStrides) {
  const at::Tensor strided = at::full({4, 5, 3}, 0.25, at::kDouble).permute({2, 0, 1});
  const Image image = TensorToImage(strided);
  EXPECT_EQ(image.width, 5);
  EXPECT_EQ(image.height, 4);
  EXPECT_EQ(image.rgb, std::vector<uint8_t>(60, 64));
}

TEST(ImageTensorTest, RefusesOtherShapesAndIntegers) {
  EXPECT_THROW(TensorToImage(at::zeros({1, 3, 2, 2})), std::invalid_argument);
  EXPECT_THROW(TensorToImage(at::zeros({2, 2, 3})), std::invalid_argument);
  EXPECT_THROW(TensorToImage(at::zeros({3, 2, 2}, at::kByte)), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo

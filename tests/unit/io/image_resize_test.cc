#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/io/image.h"
#include "tests/unit/io/expected_image.h"

namespace imageddpo {
namespace {

const std::vector<std::pair<int, int>> kSizes = {{64, 64}, {16, 16}, {37, 10},
                                                 {5, 23},  {1, 1},   {20, 60}};

TEST(ImageResizeTest, EqualsPil) {
  const Image source = ExpectedImage("resize.source");
  for (const auto& [name, filter] : {std::pair{"BILINEAR", ResizeFilter::kBilinear},
                                     {"BICUBIC", ResizeFilter::kBicubic},
                                     {"LANCZOS", ResizeFilter::kLanczos}}) {
    for (const auto& [width, height] : kSizes) {
      const std::string key = std::string("resize.") + name + "." + std::to_string(width) + "x" +
                              std::to_string(height);
      EXPECT_EQ(Resize(source, width, height, filter).rgb, ExpectedImage(key).rgb) << key;
    }
  }
}

TEST(ImageResizeTest, TheSameSizeIsACopy) {
  const Image source = ExpectedImage("resize.source");
  EXPECT_EQ(Resize(source, source.width, source.height).rgb, source.rgb);
  EXPECT_EQ(ResizeAndCentreCrop(source, source.width, source.height).rgb, source.rgb);
}

TEST(ImageResizeTest, CropsTheMiddle) {
  // Columns 0 … 5 of value 10·x; the height stays, so nothing is scaled and two columns are cropped
  // on each side.
  Image source{6, 2, {}};
  for (int y = 0; y < 2; ++y) {
    for (int x = 0; x < 6; ++x)
      source.rgb.insert(source.rgb.end(), 3, static_cast<uint8_t>(10 * x));
  }
  const Image cropped = ResizeAndCentreCrop(source, 2, 2);
  EXPECT_EQ(cropped.width, 2);
  EXPECT_EQ(cropped.height, 2);
  EXPECT_EQ(cropped.rgb, (std::vector<uint8_t>{20, 20, 20, 30, 30, 30, 20, 20, 20, 30, 30, 30}));
}

TEST(ImageResizeTest, CropKeepsTheAspectRatio) {
  const Image source = ExpectedImage("resize.source");  // 37×23
  const Image cropped = ResizeAndCentreCrop(source, 16, 16);
  const Image scaled = Resize(source, 26, 16);  // 37 · 16/23 = 25.7
  ASSERT_EQ(cropped.rgb.size(), size_t{16} * 16 * 3);
  constexpr size_t kRowBytes = 16 * 3;
  for (size_t y = 0; y < 16; ++y) {
    for (size_t x = 0; x < kRowBytes; ++x) {
      ASSERT_EQ(cropped.rgb[y * kRowBytes + x], scaled.rgb[(y * 26 + 5) * 3 + x]);
    }
  }
}

TEST(ImageResizeTest, PadsWithBlackOnBothSides) {
  const Image source = ExpectedImage("resize.source");  // 37×23
  const Image padded = ResizeTo(source, 20, 17, ResizeMode::kPad);
  const Image scaled = Resize(source, 20, 12);  // 20 · 23/37 = 12.4
  ASSERT_EQ(padded.rgb.size(), size_t{20} * 17 * 3);
  constexpr size_t kTop = size_t{2} * 20 * 3;  // (17 − 12) / 2 = 2.5, to the even.
  for (size_t i = 0; i < padded.rgb.size(); ++i) {
    const bool inside = i >= kTop && i < kTop + scaled.rgb.size();
    ASSERT_EQ(padded.rgb[i], inside ? scaled.rgb[i - kTop] : 0) << i;
  }
  EXPECT_EQ(ResizeTo(source, 37, 23, ResizeMode::kPad).rgb, source.rgb);
  const Image line{1, 100, std::vector<uint8_t>(300, 7)};
  EXPECT_EQ(ResizeTo(line, 8, 4, ResizeMode::kPad).rgb.size(), size_t{8} * 4 * 3);
}

TEST(ImageResizeTest, StretchesWithoutRegardToTheShape) {
  const Image source = ExpectedImage("resize.source");
  EXPECT_EQ(ResizeTo(source, 20, 60, ResizeMode::kStretch).rgb,
            ExpectedImage("resize.BICUBIC.20x60").rgb);
  EXPECT_EQ(ResizeTo(source, 20, 60, ResizeMode::kCrop).rgb,
            ResizeAndCentreCrop(source, 20, 60).rgb);
}

TEST(ImageResizeTest, AnyShapeGivesTheSizeAskedFor) {
  for (const auto& [width, height] : kSizes) {
    for (const auto& [from_width, from_height] : kSizes) {
      const Image source{
          from_width, from_height,
          std::vector<uint8_t>(static_cast<size_t>(from_width * from_height * 3), 9)};
      const Image cropped = ResizeAndCentreCrop(source, width, height);
      EXPECT_EQ(cropped.rgb, std::vector<uint8_t>(static_cast<size_t>(width * height * 3), 9));
    }
  }
}

TEST(ImageResizeTest, RefusesEmptySizes) {
  const Image source = ExpectedImage("resize.source");
  EXPECT_THROW(Resize(source, 0, 5), std::invalid_argument);
  EXPECT_THROW(Resize(Image{}, 5, 5), std::invalid_argument);
  EXPECT_THROW(ResizeAndCentreCrop(source, 5, -1), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo

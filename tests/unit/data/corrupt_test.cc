#include "rollout/data/corrupt/corrupt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/config/choices.h"
#include "common/io/safetensors.h"
#include "rollout/data/corrupt/pixels.h"

// Against the Python package imagecorruptions: tests/data/make_corrupted.py.
namespace imageddpo {
namespace {

constexpr int kImages = 20;

at::Tensor Recorded(const std::string& name) {
  const auto file = SafetensorsFile::Open("tests/data/corrupt/expected.safetensors");
  return file.value()->Get(name).value();
}

Image RecordedImage(const std::string& name) {
  const at::Tensor pixels = Recorded(name);
  const auto* data = pixels.const_data_ptr<uint8_t>();
  return {static_cast<int>(pixels.size(1)), static_cast<int>(pixels.size(0)),
          std::vector<uint8_t>(data, data + pixels.numel())};
}

CorruptSettings SettingsOf(const std::string& kind, int severity, uint64_t seed = 0) {
  return {.kind = FindChoice(kCorruptKinds, kind).value(), .severity = severity, .seed = seed};
}

double MeanDifference(const Image& a, const Image& b) {
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(a.rgb[i] - b.rgb[i]);
  return sum / static_cast<double>(a.rgb.size());
}

/// Both compute in reals and cut to whole levels, so a rounding error may decide between two.
TEST(CorruptTest, KindsWithoutRandomNumbersAreThePackagesWithinOneLevel) {
  for (const std::string kind :
       {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}) {
    for (int i = 0; i < kImages; ++i) {
      const int severity = i % 5 + 1;
      const Image image = RecordedImage("image." + std::to_string(i));
      const absl::StatusOr<Image> corrupted = Corrupt(image, SettingsOf(kind, severity), "id");
      ASSERT_TRUE(corrupted.ok()) << corrupted.status();
      const std::string name = kind + "." + std::to_string(severity) + "." + std::to_string(i);
      const Image expected = RecordedImage("corrupted." + name);
      ASSERT_EQ(corrupted->rgb.size(), expected.rgb.size());
      int largest = 0;
      for (size_t k = 0; k < expected.rgb.size(); ++k) {
        largest = std::max(largest, std::abs(corrupted->rgb[k] - expected.rgb[k]));
      }
      EXPECT_LE(largest, 1) << name;
      EXPECT_GT(MeanDifference(*corrupted, image), 0.5) << name;
    }
  }
}

double LargestDifference(const Pixels& pixels, const at::Tensor& expected_HWC) {
  const auto* expected = expected_HWC.const_data_ptr<float>();
  double largest = 0;
  for (size_t i = 0; i < pixels.values.size(); ++i) {
    largest = std::max(largest, std::abs(pixels.values[i] - expected[i]));
  }
  return largest;
}

TEST(CorruptTest, ZoomAndMotionAreThePackages) {
  const Pixels image = Pixels::Of(RecordedImage("image.0"));
  for (const std::string zoom : {"1.05", "1.25", "2.5", "4.5"}) {
    const Pixels zoomed = ClippedZoom(image, std::stod(zoom));
    EXPECT_GE(zoomed.width, image.width) << zoom;
    EXPECT_LT(zoomed.width, image.width + std::stod(zoom)) << zoom;
    EXPECT_GE(zoomed.height, image.height) << zoom;
    EXPECT_LT(
        LargestDifference(TopLeft(zoomed, image.width, image.height), Recorded("zoomed." + zoom)),
        1e-7)
        << zoom;
  }
  // Recorded in 32-bit floats, in which the package adds up the steps of a motion.
  for (const std::string angle : {"-120", "-31", "0", "44.5"}) {
    EXPECT_LT(
        LargestDifference(MotionBlur(image, 10, 3, std::stod(angle)), Recorded("moved." + angle)),
        1e-5)
        << angle;
  }
}

/// Means over 16 draws of the package and 64 of ours: 6 standard errors of their difference, since
/// the deviation is an estimate too.
TEST(CorruptTest, KindsWithRandomNumbersChangeAnImageAsMuchAsThePackages) {
  constexpr int kDraws = 64, kPackagesDraws = 16;
  const Image image = RecordedImage("image.1");
  for (const std::string kind : {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur",
                                 "motion_blur", "snow", "fog", "elastic_transform"}) {
    const at::Tensor recorded = Recorded("change." + kind);
    for (int severity = 1; severity <= 5; ++severity) {
      const double* row = recorded.const_data_ptr<double>() + size_t{2} * (severity - 1);
      double sum = 0;
      for (int draw = 0; draw < kDraws; ++draw) {
        const auto corrupted =
            Corrupt(image, SettingsOf(kind, severity), "draw " + std::to_string(draw));
        ASSERT_TRUE(corrupted.ok()) << corrupted.status();
        sum += MeanDifference(*corrupted, image);
      }
      EXPECT_NEAR(sum / kDraws, row[0], 6 * row[1] * std::sqrt(1.0 / kDraws + 1.0 / kPackagesDraws))
          << kind << " " << severity;
    }
  }
}

TEST(CorruptTest, RandomNumbersDependOnSeedAndIdAlone) {
  const Image image = RecordedImage("image.2");
  for (const auto& choice : kCorruptKinds) {
    const std::string kind(choice.word);
    const auto made = [&](uint64_t seed, const std::string& id) {
      return Corrupt(image, SettingsOf(kind, 3, seed), id).value().rgb;
    };
    EXPECT_EQ(made(1, "a"), made(1, "a")) << kind;
    const bool random = made(1, "a") != made(1, "b");
    EXPECT_EQ(random, made(1, "a") != made(2, "a")) << kind;
  }
}

TEST(CorruptTest, AnySizeGivesAnImageOfThatSize) {
  for (const auto& choice : kCorruptKinds) {
    for (const auto& [width, height] : {std::pair{1, 1}, {3, 70}, {9, 2}}) {
      const Image image{width, height,
                        std::vector<uint8_t>(static_cast<size_t>(3 * width * height), 100)};
      for (int severity = 1; severity <= 5; ++severity) {
        const auto corrupted =
            Corrupt(image, {.kind = choice.value, .severity = severity}, "an image");
        ASSERT_TRUE(corrupted.ok()) << corrupted.status();
        EXPECT_EQ(corrupted->width, width);
        EXPECT_EQ(corrupted->rgb.size(), image.rgb.size()) << choice.word;
      }
    }
  }
}

}  // namespace
}  // namespace imageddpo

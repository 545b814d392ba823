#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "common/io/file.h"
#include "common/io/image.h"
#include "common/io/image_probe.h"
#include "common/io/safetensors.h"

// Files of every format and kind, beside what PIL makes of them: tests/data/make_pictures.py.
namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

const std::string kPictures = "tests/data/pictures/";

std::vector<std::string> AllPictures() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kPictures)) {
    if (!entry.is_regular_file() || entry.path().extension() == ".safetensors") continue;
    names.push_back(entry.path().lexically_relative(kPictures));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Image AsPilSees(const std::string& name) {
  const auto file = SafetensorsFile::Open(kPictures + "expected.safetensors");
  const at::Tensor pixels = file.value()->Get(name).value();
  const auto* data = pixels.const_data_ptr<uint8_t>();
  return {static_cast<int>(pixels.size(1)), static_cast<int>(pixels.size(0)),
          std::vector<uint8_t>(data, data + pixels.numel())};
}

int LargestDifference(const Image& a, const Image& b) {
  int largest = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i)
    largest = std::max(largest, std::abs(a.rgb[i] - b.rgb[i]));
  return largest;
}

TEST(PicturesTest, EachIsReadAsPilReadsIt) {
  const std::vector<std::string> names = AllPictures();
  ASSERT_GE(names.size(), 90);
  for (const std::string& name : names) {
    const absl::StatusOr<Image> image = ReadImage(kPictures + name);
    ASSERT_TRUE(image.ok()) << image.status();
    const Image expected = AsPilSees(name);
    EXPECT_EQ(image->width, expected.width) << name;
    EXPECT_EQ(image->height, expected.height) << name;
    ASSERT_EQ(image->rgb.size(), expected.rgb.size()) << name;
    EXPECT_EQ(LargestDifference(*image, expected), 0) << name;
  }
}

TEST(PicturesTest, ProbedAndReadSizesAgree) {
  for (const std::string& name : AllPictures()) {
    const absl::StatusOr<ImageHeader> header = ProbeImage(kPictures + name);
    ASSERT_TRUE(header.ok()) << header.status();
    const Image expected = AsPilSees(name);
    EXPECT_EQ(std::minmax(header->width, header->height),
              std::minmax(expected.width, expected.height))
        << name;
  }
}

TEST(PicturesTest, TruncatedFilesAreErrorsThatNameTheFormat) {
  for (const char* name : {"webp/lossy.webp", "webp/lossless.webp", "webp/animated.webp",
                           "bmp/rgb24.bmp", "bmp/rle8.bmp", "tiff/lzw.tif", "tiff/rgb.tif",
                           "tiff/tiled_deflate.tif", "gif/plain.gif", "jpeg/cmyk.jpg"}) {
    const std::string whole = *ReadFile(kPictures + name);
    for (const double share : {0.1, 0.5, 0.9}) {
      const auto size = static_cast<size_t>(share * static_cast<double>(whole.size()));
      const absl::StatusOr<Image> image =
          DecodeImage(std::string_view(whole).substr(0, size), "a/file.png");
      // TIFF files keep their directory at the end or their pixels where nothing follows them.
      ASSERT_FALSE(image.ok()) << name << " cut to " << size;
      EXPECT_TRUE(absl::IsInvalidArgument(image.status()));
      EXPECT_THAT(std::string(image.status().message()),
                  AllOf(HasSubstr("'a/file.png'"),
                        AnyOf(HasSubstr("WebP file"), HasSubstr("BMP file"), HasSubstr("TIFF file"),
                              HasSubstr("GIF file"), HasSubstr("JPEG file"))));
    }
  }
}

/// A generator of the test's own, so that a failure can be repeated.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed) {}
  uint64_t operator()(uint64_t below) {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return (state_ >> 33) % below;
  }

 private:
  uint64_t state_;
};

// The tests of the preset `asan` run this too: no mutation may read or write out of bounds.
TEST(PicturesTest, MutatedFilesGiveAPictureOrAnErrorOfTheirOwn) {
  Noise noise(5);
  for (const std::string& name : AllPictures()) {
    const std::string whole = *ReadFile(kPictures + name);
    for (int round = 0; round < 40; ++round) {
      std::string changed = whole;
      for (uint64_t i = 0; i <= noise(4); ++i) {
        // Half of the changes hit the first bytes, where sizes and offsets stand.
        const size_t place =
            noise(2) == 0 ? noise(std::min<size_t>(changed.size(), 64)) : noise(changed.size());
        constexpr char kHostile[] = {'\0', '\1', '\x7f', '\x80', '\xff'};
        changed[place] = noise(2) == 0 ? kHostile[noise(5)] : static_cast<char>(noise(256));
      }
      if (noise(8) == 0) changed.resize(noise(changed.size()));
      const absl::StatusOr<Image> image = DecodeImage(changed, name);
      if (!image.ok()) {
        EXPECT_THAT(std::string(image.status().message()), HasSubstr(name));
        continue;
      }
      EXPECT_EQ(image->rgb.size(),
                size_t{3} * static_cast<size_t>(image->width) * static_cast<size_t>(image->height));
    }
  }
}

}  // namespace
}  // namespace imageddpo

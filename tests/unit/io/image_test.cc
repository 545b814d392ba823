#include "common/io/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "common/io/file.h"
#include "common/io/safetensors.h"
#include "tests/testing/temp_dir.h"
#include "tests/unit/io/expected_image.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kFolder = "tests/data/images/";

std::string ReadBytes(const std::string& name) { return *ReadFile(kFolder + name); }

std::string ErrorOf(std::string_view bytes) {
  const absl::StatusOr<Image> image = DecodeImage(bytes, "some/image");
  if (image.ok()) return "no error";
  EXPECT_TRUE(absl::IsInvalidArgument(image.status()));
  return std::string(image.status().message());
}

/// Checksums, lengths and the like: the 4 bytes at `position`, big-endian.
void Put32(std::string& bytes, size_t position, uint32_t value) {
  for (int i = 0; i < 4; ++i) bytes[position + i] = static_cast<char>(value >> (24 - 8 * i));
}

class PilImageTest : public ::testing::TestWithParam<const char*> {};

TEST_P(PilImageTest, IsReadAsPilReadsIt) {
  const std::string name = GetParam();
  const absl::StatusOr<Image> image = ReadImage(kFolder + name);
  ASSERT_TRUE(image.ok()) << image.status();
  const Image expected = ExpectedImage(name);
  ASSERT_EQ(image->width, expected.width);
  ASSERT_EQ(image->height, expected.height);
  EXPECT_EQ(image->rgb, expected.rgb);
}

INSTANTIATE_TEST_SUITE_P(Png, PilImageTest,
                         ::testing::Values("rgb.png", "rgb_interlaced.png", "rgba.png",
                                           "rgb_transparent_colour.png", "rgb16.png",
                                           "rgb_gamma.png", "grey.png", "grey1.png", "grey2.png",
                                           "grey4.png", "grey16.png", "grey_alpha.png",
                                           "palette4.png", "palette8_transparent.png",
                                           "oriented/oriented6.png"));
INSTANTIATE_TEST_SUITE_P(Jpeg, PilImageTest,
                         ::testing::Values("rgb.jpg", "rgb_444.jpg", "progressive.jpg", "grey.jpg",
                                           "oriented/oriented1.jpg", "oriented/oriented2.jpg",
                                           "oriented/oriented3.jpg", "oriented/oriented4.jpg",
                                           "oriented/oriented5.jpg", "oriented/oriented6.jpg",
                                           "oriented/oriented7.jpg", "oriented/oriented8.jpg",
                                           "jpeg_called.png"));

TEST(ImageTest, ErrorsNameTheFileAndTheReason) {
  EXPECT_TRUE(absl::IsNotFound(ReadImage("no/such.png").status()));
  EXPECT_THAT(ErrorOf(""), AllOf(HasSubstr("'some/image'"), HasSubstr("empty")));
  EXPECT_THAT(ErrorOf("GIF89a"), AllOf(HasSubstr("a GIF file"), HasSubstr("truncated")));
}

TEST(ImageTest, EveryTruncationIsAnError) {
  for (const char* name : {"rgb.png", "rgb_interlaced.png", "rgb.jpg", "progressive.jpg"}) {
    const std::string whole = ReadBytes(name);
    ASSERT_EQ(ErrorOf(whole), "no error");
    for (size_t size = 0; size + 2 < whole.size(); ++size) {  // 2: JPEG's end marker.
      EXPECT_NE(ErrorOf(std::string_view(whole).substr(0, size)), "no error") << name << size;
    }
  }
}

TEST(ImageTest, NoChangedByteCrashes) {
  for (const char* name : {"palette8_transparent.png", "oriented/oriented6.png",
                           "oriented/oriented5.jpg", "progressive.jpg", "grey.jpg"}) {
    const std::string whole = ReadBytes(name);
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const int flip : {0x01, 0x80, 0xff}) {
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ flip);
        const absl::StatusOr<Image> image = DecodeImage(changed, name);
        if (!image.ok()) continue;
        EXPECT_EQ(image->rgb.size(), size_t{3} * image->width * image->height);
      }
    }
  }
}

TEST(ImageTest, AChangedPixelByteOfAPngIsFound) {
  std::string bytes = ReadBytes("rgb.png");
  bytes[bytes.find("IDAT") + 20] ^= 1;
  EXPECT_NE(ErrorOf(bytes), "no error");
}

TEST(ImageTest, RefusesHugeSizesBeforeAllocating) {
  std::string png = ReadBytes("rgb.png");
  Put32(png, 16, 30000);
  Put32(png, 20, 30000);
  Put32(png, 29, 0xe9456fed);  // IHDR's checksum.
  EXPECT_THAT(ErrorOf(png), AllOf(HasSubstr("30000x30000"), HasSubstr("limit")));

  std::string jpeg = ReadBytes("rgb.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  jpeg.replace(frame + 5, 4, "\xff\x00\xff\x00", 4);
  EXPECT_THAT(ErrorOf(jpeg), AllOf(HasSubstr("65280x65280"), HasSubstr("limit")));
}

TEST(ImageTest, PngGoesRoundExactly) {
  const TempDir dir;
  const Image image = ExpectedImage("resize.source");
  ASSERT_TRUE(WritePng(dir / "a.png", image).ok());
  const absl::StatusOr<Image> back = ReadImage(dir / "a.png");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->width, image.width);
  EXPECT_EQ(back->rgb, image.rgb);
}

TEST(ImageTest, JpegGoesRoundClosely) {
  const Image image = ExpectedImage("jpeg.smooth.image");
  const absl::StatusOr<std::string> bytes = EncodeJpeg(image, 95);
  ASSERT_TRUE(bytes.ok());
  const absl::StatusOr<Image> back = DecodeImage(*bytes, "memory");
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->rgb.size(), image.rgb.size());
  double total = 0;
  for (size_t i = 0; i < image.rgb.size(); ++i) total += std::abs(image.rgb[i] - back->rgb[i]);
  EXPECT_LT(total / static_cast<double>(image.rgb.size()), 2.0);
}

TEST(ImageTest, JpegSizesArePils) {
  const auto file = SafetensorsFile::Open(kFolder + "expected.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  for (const std::string name : {"noise", "smooth", "flat"}) {
    const at::Tensor sizes = (*file)->Get("jpeg." + name + ".bytes").value();
    const Image image = ExpectedImage("jpeg." + name + ".image");
    int i = 0;
    for (const int quality : {10, 75, 95, 100}) {
      const auto expected_bytes = sizes.const_data_ptr<int64_t>()[i++];
      const absl::StatusOr<std::string> jpeg = EncodeJpeg(image, quality);
      ASSERT_TRUE(jpeg.ok());
      EXPECT_EQ(static_cast<int64_t>(jpeg->size()), expected_bytes)
          << name << " at quality " << quality;
    }
  }
}

TEST(ImageTest, ALargeFileIsRefusedBeforeItIsRead) {
  const TempDir dir;
  const std::string path = dir.Write("large.png", ReadBytes("rgb.png"));
  std::filesystem::resize_file(path, uintmax_t{1} << 40);  // Of holes: it takes no space.
  const absl::Status status = ReadImage(path).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(path), HasSubstr("is larger than")));
}

TEST(ImageTest, EncodersRefuseNonsense) {
  const Image image = ExpectedImage("resize.source");
  EXPECT_FALSE(EncodeJpeg(image, 0).ok());
  EXPECT_FALSE(EncodeJpeg(image, 101).ok());
  for (const Image& bad : {Image{}, Image{2, 2, {1, 2, 3}}, Image{-1, 1, {}}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(EncodePng(bad).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(EncodeJpeg(bad, 95).status()));
  }
}

Image Filled(int width, int height, uint8_t value) {
  return {width, height, std::vector<uint8_t>(static_cast<size_t>(width * height * 3), value)};
}

TEST(ImageTest, TilesRowsWithWhiteBetween) {
  const Image grid = Tile({{Filled(2, 1, 1), Filled(1, 2, 2)}, {Filled(1, 1, 3)}}, 1);
  EXPECT_EQ(grid.width, 4);
  EXPECT_EQ(grid.height, 4);
  std::vector<int> reds;
  for (size_t i = 0; i < grid.rgb.size(); i += 3) reds.push_back(grid.rgb[i]);
  EXPECT_EQ(reds, (std::vector<int>{1, 1, 255, 2,        //
                                    255, 255, 255, 2,    //
                                    255, 255, 255, 255,  //
                                    3, 255, 255, 255}));
  EXPECT_EQ(Tile({}, 3).rgb.size(), 0);
  EXPECT_THROW(Tile({}, -1), std::invalid_argument);
}

}  // namespace
}  // namespace imageddpo

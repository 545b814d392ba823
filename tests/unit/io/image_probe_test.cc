#include "common/io/image_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "common/io/file.h"
#include "common/io/image.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using std::string_view_literals::operator""sv;
using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kProbed = "tests/data/images/";

class ImageProbeTest : public ::testing::Test {
 protected:
  std::string Put(const std::string& name, std::string_view bytes) {
    const std::string path = dir_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::string ErrorOf(std::string_view bytes) {
    const auto header = ProbeImage(Put("some.jpg", bytes));
    if (header.ok()) return "no error";
    EXPECT_TRUE(absl::IsInvalidArgument(header.status()));
    return std::string(header.status().message());
  }

  const TempDir dir_;
};

TEST_F(ImageProbeTest, TellsFormatAndSizeAsStored) {
  for (const auto& [name, format, width, height] : {std::tuple{"rgb.png", "PNG", 11, 9},
                                                    {"oriented/oriented6.png", "PNG", 11, 9},
                                                    {"rgb.jpg", "JPEG", 30, 21},
                                                    {"progressive.jpg", "JPEG", 30, 21},
                                                    {"oriented/oriented6.jpg", "JPEG", 30, 21},
                                                    {"jpeg_called.png", "JPEG", 30, 21}}) {
    const auto header = ProbeImage(kProbed + name);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->format, format) << name;
    EXPECT_EQ(header->width, width) << name;
    EXPECT_EQ(header->height, height) << name;
  }
}

TEST_F(ImageProbeTest, NamesWhatIsNotRead) {
  for (const auto& [bytes, what] :
       {std::pair{""sv, "empty"},
        {"\0\0\0\x18"
         "ftypheic\0\0\0\0"sv,
         "it is HEIC, which is not read; convert it to PNG"},
        {"\0\0\0\x1c"
         "ftypavif\0\0\0\0"sv,
         "AVIF"},
        {"\xff\x0a\xfa\x7f"sv, "JPEG XL"},
        {"\0\0\0\0\0\0\0\0"sv, "only zeros"},
        {"<!DOCTYPE html><html>404"sv, "a web page (HTML)"},
        {"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\">"sv, "it is SVG"},
        {"a photo of a dog\n"sv, "it is text"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:4d"sv, "git lfs pull"},
        {"P6\n2 2\n255\n............"sv, "PPM"},
        {"8BPS\0\1"sv, "Photoshop"},
        {"\x93NUMPY\1\0"sv, "a NumPy array"},
        {"RIFF\4\0\0\0WAVEfmt "sv, "RIFF"},
        {"\x80\x02}q\1(X\4"sv, "none of the formats that are read"}}) {
    EXPECT_THAT(ErrorOf(bytes), AllOf(HasSubstr("some.jpg"), HasSubstr(what)));
  }
}

TEST_F(ImageProbeTest, AFileCutBeforeItsSizeIsAnErrorWithItsFormat) {
  for (const char* name : {"rgb.png", "progressive.jpg"}) {
    const std::string whole = *ReadFile(kProbed + name);
    for (const size_t size : {size_t{8}, size_t{19}}) {
      EXPECT_THAT(ErrorOf(std::string_view(whole).substr(0, size)),
                  AllOf(HasSubstr(name[0] == 'r' ? "PNG" : "JPEG"), HasSubstr("ends before")));
    }
  }
}

TEST_F(ImageProbeTest, RefusesWhatReadImageRefusesBySize) {
  std::string jpeg = *ReadFile(kProbed + "rgb.jpg");
  jpeg.replace(jpeg.find("\xff\xc0") + 5, 4, "\xff\x00\xff\x00", 4);
  EXPECT_THAT(ErrorOf(jpeg), AllOf(HasSubstr("65280x65280"), HasSubstr("limit")));
  EXPECT_TRUE(absl::IsNotFound(ProbeImage("no/such.png").status()));
  EXPECT_THAT(std::string(ProbeImage(kProbed).status().message()), HasSubstr("no regular file"));
}

TEST_F(ImageProbeTest, AJpegsSizeBehindLongSegmentsIsFound) {
  const std::string jpeg = *ReadFile(kProbed + "rgb.jpg");
  std::string segment = "\xff\xe2\xff\xff";
  segment.resize(2 + 0xffff, '\xff');
  std::string with_segments = jpeg.substr(0, 2);
  for (int i = 0; i < 5; ++i) with_segments += segment;
  const auto header = ProbeImage(Put("long.jpg", with_segments + jpeg.substr(2)));
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->width, 30);
}

}  // namespace
}  // namespace imageddpo

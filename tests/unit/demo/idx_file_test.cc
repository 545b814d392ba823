#include "deploy/demo/idx_file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace imageddpo::demo {
namespace {

namespace fs = std::filesystem;

const std::string kTwoImages(
    "\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03"
    "abcdefghijkl",
    28);

class IdxFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / (std::string("idx_file_test.") + info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path WriteGzip(const std::string& bytes) {
    const fs::path path = folder_ / "data.gz";
    gzFile file = gzopen(path.c_str(), "wb");
    EXPECT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())),
              static_cast<int>(bytes.size()));
    EXPECT_EQ(gzclose(file), Z_OK);
    return path;
  }

  fs::path folder_;
};

TEST_F(IdxFileTest, ReadsSizesAndValues) {
  const auto array = ReadIdxFile(WriteGzip(kTwoImages), 3);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->sizes, (std::vector<int64_t>{2, 2, 3}));
  EXPECT_EQ(std::string(array->values.begin(), array->values.end()), "abcdefghijkl");
}

TEST_F(IdxFileTest, ReadsAPlainFile) {
  const fs::path path = folder_ / "plain";
  std::ofstream(path, std::ios::binary) << kTwoImages;
  const auto array = ReadIdxFile(path, 3);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->values.size(), 12U);
}

TEST_F(IdxFileTest, ReadsSizesAboveOneByte) {
  std::string bytes("\0\0\x08\x01\0\x01\x02\x03", 8);  // 66051 values
  bytes.append(66051, 'v');
  const auto array = ReadIdxFile(WriteGzip(bytes), 1);
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_EQ(array->values.size(), 66051U);
}

TEST_F(IdxFileTest, SaysThatAFileIsMissing) {
  const fs::path path = folder_ / "absent.gz";
  const auto array = ReadIdxFile(path, 3);
  EXPECT_TRUE(absl::IsNotFound(array.status())) << array.status();
  EXPECT_NE(array.status().message().find(path.string()), std::string::npos);
}

TEST_F(IdxFileTest, RefusesEveryTruncationOfTheData) {
  for (size_t length = 0; length < kTwoImages.size(); ++length) {
    const fs::path path = WriteGzip(kTwoImages.substr(0, length));
    const auto array = ReadIdxFile(path, 3);
    EXPECT_TRUE(absl::IsDataLoss(array.status())) << length << ": " << array.status();
    EXPECT_NE(array.status().message().find(path.string()), std::string::npos);
  }
}

TEST_F(IdxFileTest, RefusesEveryTruncationOfTheCompressedFile) {
  const fs::path whole = WriteGzip(kTwoImages);
  std::ifstream stream(whole, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  for (size_t length = 0; length < bytes.size(); ++length) {
    const fs::path path = folder_ / "cut.gz";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes.substr(0, length);
    EXPECT_FALSE(ReadIdxFile(path, 3).ok()) << length << " of " << bytes.size() << " bytes";
  }
}

TEST_F(IdxFileTest, RefusesDamagedCompression) {
  const fs::path path = WriteGzip(kTwoImages);
  const auto size = static_cast<std::streamoff>(fs::file_size(path));
  std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(size - 8);  // the checksum of the contents
  stream.put('\x55');
  stream.put('\x55');
  stream.close();
  EXPECT_TRUE(absl::IsDataLoss(ReadIdxFile(path, 3).status()));
}

TEST_F(IdxFileTest, RefusesDataLeftOver) {
  EXPECT_TRUE(absl::IsDataLoss(ReadIdxFile(WriteGzip(kTwoImages + "m"), 3).status()));
}

TEST_F(IdxFileTest, RefusesOtherFiles) {
  EXPECT_TRUE(absl::IsInvalidArgument(ReadIdxFile(WriteGzip("not an idx file"), 3).status()));
  std::string floats = kTwoImages;
  floats[2] = 0x0D;
  EXPECT_TRUE(absl::IsInvalidArgument(ReadIdxFile(WriteGzip(floats), 3).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadIdxFile(WriteGzip(kTwoImages), 1).status()));
}

TEST_F(IdxFileTest, RefusesAHeaderThatAnnouncesTooMuch) {
  std::string bytes = kTwoImages;
  for (size_t i = 4; i < 16; ++i) bytes[i] = '\xFF';
  EXPECT_TRUE(absl::IsInvalidArgument(ReadIdxFile(WriteGzip(bytes), 3).status()));
}

}  // namespace
}  // namespace imageddpo::demo

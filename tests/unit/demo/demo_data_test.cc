#include "deploy/demo/demo_data.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/io/image.h"

namespace imageddpo::demo {
namespace {

namespace fs = std::filesystem;

/// 30 images of 32x32; image i has label i % 10 and one bright square whose grey is 100 + i.
Split MakeSplit() {
  Split split{.name = "train", .images = {}, .labels = {}};
  for (int i = 0; i < 30; ++i) {
    GreyImage image{.height_px = 32, .width_px = 32, .pixels = std::vector<uint8_t>(1024)};
    for (int y = 8; y < 24; ++y) {
      for (int x = 8; x < 24; ++x)
        image.pixels[static_cast<size_t>(y * 32 + x)] = static_cast<uint8_t>(100 + i);
    }
    split.images.push_back(image);
    split.labels.push_back(static_cast<uint8_t>(i % 10));
  }
  return split;
}

std::vector<nlohmann::json> ReadLines(const fs::path& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

class DemoDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / (std::string("demo_data_test.") + info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  FolderPlan Plan(std::optional<double> sigma_px, int count) const {
    return {.path = folder_ / "nested" / "images", .blur_sigma_px = sigma_px, .count = count};
  }

  fs::path folder_;
};

TEST(SelectEvenlyTest, TakesTheFirstOfEachClassInFileOrder) {
  const std::vector<uint8_t> labels = {0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 1, 0};
  const auto ten = SelectEvenly(labels, 10);
  ASSERT_TRUE(ten.ok());
  EXPECT_EQ(*ten, (std::vector<int>{0, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  const auto twelve = SelectEvenly(labels, 12);  // classes 0 and 1 give one more
  ASSERT_TRUE(twelve.ok());
  EXPECT_EQ(*twelve, (std::vector<int>{0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13}));
}

TEST(SelectEvenlyTest, RefusesWhatCannotBeChosen) {
  const std::vector<uint8_t> labels = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_TRUE(absl::IsInvalidArgument(SelectEvenly(labels, 0).status()));
  const absl::Status status = SelectEvenly(labels, 10).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_NE(status.message().find("class 9"), std::string::npos) << status;
}

TEST_F(DemoDataTest, WritesImagesAndMetadata) {
  const FolderPlan plan = Plan(std::nullopt, 20);
  const auto written = WriteFolder(MakeSplit(), plan);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_TRUE(*written);
  const auto lines = ReadLines(plan.path / "metadata.jsonl");
  ASSERT_EQ(lines.size(), 20U);
  EXPECT_EQ(
      lines[13],
      (nlohmann::json{
          {"file_name", "train-000013.png"}, {"text", ""}, {"label", 3}, {"id", "train-000013"}}));
  const auto image = ReadImage((plan.path / "train-000013.png").string());
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->width, 32);
  EXPECT_EQ(image->height, 32);
  for (int channel = 0; channel < 3; ++channel) {
    EXPECT_EQ(image->rgb[static_cast<size_t>((16 * 32 + 16) * 3 + channel)], 113);
    EXPECT_EQ(image->rgb[static_cast<size_t>(channel)], 0);
  }
}

TEST_F(DemoDataTest, BlursWhenAsked) {
  const FolderPlan plan = Plan(1.6, 10);
  const Split split = MakeSplit();
  ASSERT_TRUE(WriteFolder(split, plan).ok());
  const auto image = ReadImage((plan.path / "train-000004.png").string());
  ASSERT_TRUE(image.ok()) << image.status();
  const GreyImage expected = Blur(split.images[4], 1.6);
  for (size_t i = 0; i < expected.pixels.size(); ++i) {
    ASSERT_EQ(image->rgb[3 * i], expected.pixels[i]) << "pixel " << i;
  }
}

TEST_F(DemoDataTest, KeepsACompleteFolderAndReplacesOneOfOtherSettings) {
  const Split split = MakeSplit();
  ASSERT_TRUE(WriteFolder(split, Plan(1.6, 20)).ok());
  const auto again = WriteFolder(split, Plan(1.6, 20));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_FALSE(*again);
  for (const FolderPlan& other : {Plan(1.7, 20), Plan(std::nullopt, 20), Plan(std::nullopt, 10)}) {
    const auto written = WriteFolder(split, other);
    ASSERT_TRUE(written.ok()) << written.status();
    EXPECT_TRUE(*written);
  }
  EXPECT_EQ(ReadLines(Plan(1.6, 10).path / "metadata.jsonl").size(), 10U);
  EXPECT_FALSE(fs::exists(Plan(1.6, 10).path / "train-000013.png"));
}

TEST_F(DemoDataTest, NeverReplacesAForeignFolder) {
  const FolderPlan plan = Plan(1.6, 10);
  fs::create_directories(plan.path);
  std::ofstream(plan.path / "holiday.png") << "precious";
  const auto written = WriteFolder(MakeSplit(), plan);
  EXPECT_TRUE(absl::IsAlreadyExists(written.status())) << written.status();
  EXPECT_NE(written.status().message().find(plan.path.string()), std::string::npos);
  EXPECT_TRUE(fs::exists(plan.path / "holiday.png"));
}

TEST_F(DemoDataTest, LeavesNothingBehindWhenTheImagesDoNotSuffice) {
  const FolderPlan plan = Plan(1.6, 40);
  EXPECT_FALSE(WriteFolder(MakeSplit(), plan).ok());
  EXPECT_TRUE(fs::is_empty(plan.path.parent_path()));
}

TEST_F(DemoDataTest, NamesThePackageOfAMissingDataset) {
  const auto split = ReadSplit(folder_ / "absent", "train");
  EXPECT_TRUE(absl::IsNotFound(split.status()));
  EXPECT_NE(split.status().message().find("dataset-fashion-mnist"), std::string::npos);
  EXPECT_NE(split.status().message().find("absent/train-images-idx3-ubyte.gz"), std::string::npos);
}

}  // namespace
}  // namespace imageddpo::demo

#include "rollout/data/listing/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "rollout/data/listing/check.h"
#include "tests/testing/npy.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class NpyTest : public ::testing::Test {
 protected:
  std::string Error(const std::string& name, const ListingOptions& options = {}) {
    return std::string(ListExamples(dir_ / name, options).status().message());
  }
  TempDir dir_;
};

TEST_F(NpyTest, CifarC) {
  dir_.Write("fog.npy", NpyPictures(10));
  std::string labels;
  for (int i = 0; i < 10; ++i)
    labels += std::string(1, static_cast<char>(9 - i)) + std::string(7, '\0');
  dir_.Write("labels.npy", Npy("<i8", "(10,)", labels));
  const absl::StatusOr<Listing> listing = ListExamples(dir_ / "fog.npy");
  ASSERT_TRUE(listing.ok()) << listing.status();
  ASSERT_EQ(listing->examples.size(), 10);
  const Example example = listing->examples.at(7);
  EXPECT_EQ(example.id, "fog.npy/7");
  EXPECT_EQ(example.file_name, dir_ / "fog.npy");
  EXPECT_EQ(example.row, 7);
  EXPECT_EQ(example.label, 2);
  EXPECT_EQ(example.metadata, (nlohmann::json{{"corruption", "fog"}, {"severity", 4}}));
  EXPECT_TRUE(listing->warnings.empty());
  const absl::StatusOr<Image> image = ReadExampleImage(listing->examples, 7);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->width, 2);
  EXPECT_EQ(image->height, 1);
  EXPECT_THAT(image->rgb, ElementsAre(7, 7, 7, 7, 7, 7));
}

TEST_F(NpyTest, ASeverityIsAFifth) {
  dir_.Write("fog.npy", NpyPictures(10));
  dir_.Write("labels.npy", Npy("|u1", "(10,)", "abcdefghij"));
  for (int severity = 1; severity <= 5; ++severity) {
    const absl::StatusOr<Listing> listing = ListExamples(dir_ / "fog.npy", {.severity = severity});
    ASSERT_TRUE(listing.ok()) << listing.status();
    ASSERT_EQ(listing->examples.size(), 2);
    const int64_t first = 2 * (severity - 1);
    for (int64_t i = 0; i < 2; ++i) {
      const Example example = listing->examples.at(i);
      EXPECT_EQ(example.id, "fog.npy/" + std::to_string(first + i));
      EXPECT_EQ(example.row, first + i);
      EXPECT_EQ(example.label, 'a' + first + i);
      EXPECT_EQ(example.metadata["severity"], severity);
      EXPECT_EQ(ReadExampleImage(listing->examples, i)->rgb[0], first + i);
    }
  }
}

TEST_F(NpyTest, OnlyAnArrayOfFiveSeveritiesHasOneToChoose) {
  dir_.Write("fog.npy", NpyPictures(9));
  EXPECT_EQ(Error("fog.npy"), "");
  EXPECT_THAT(Error("fog.npy", {.severity = 2}),
              AllOf(HasSubstr(dir_ / "fog.npy"), HasSubstr("holds 9 pictures"),
                    HasSubstr("leave `data.severity` out")));
  dir_.Write("fog/2/n01/a.JPEG", "x");
  EXPECT_EQ(Error("fog/2"), "");
  EXPECT_THAT(Error("fog", {.severity = 2}),
              AllOf(HasSubstr("'" + (dir_ / "fog") + "' is not read as a .npy"),
                    HasSubstr("`data.severity`"), HasSubstr("fog/3"),
                    HasSubstr("`data.corrupt.severity`")));
}

TEST_F(NpyTest, WithoutLabelsThereIsAWarning) {
  dir_.Write("mine.npy", NpyPictures(3));
  const absl::StatusOr<Listing> listing = ListExamples(dir_ / "mine.npy");
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(listing->examples.label(0), std::nullopt);
  EXPECT_EQ(listing->examples.at(0).metadata, nlohmann::json::object());
  EXPECT_THAT(listing->warnings, ElementsAre(HasSubstr("no labels.npy")));
}

TEST_F(NpyTest, RefusesOtherArrays) {
  dir_.Write("a.npy", "no array");
  EXPECT_THAT(Error("a.npy"), AllOf(HasSubstr(dir_ / "a.npy"), HasSubstr("no NumPy array")));
  dir_.Write("a.npy", Npy("<f4", "(1, 1, 1, 3)", std::string(12, '\0')));
  EXPECT_THAT(Error("a.npy"), HasSubstr("holds <f4 [1,1,1,3]"));
  dir_.Write("a.npy", Npy("|u1", "(2, 1, 2, 3)", std::string(11, '\0')));
  EXPECT_THAT(Error("a.npy"), HasSubstr("cut off: its shape needs 12 bytes, and it has 11"));
  dir_.Write("a.npy", Npy("|u1", "(1, 1, 1, 3)", "abc", "True"));
  EXPECT_THAT(Error("a.npy"), HasSubstr("ascontiguousarray"));
  dir_.Write("a.npy", Npy("|u1", "(99999999999, 99999999999, 99999999999, 3)", ""));
  EXPECT_THAT(Error("a.npy"), HasSubstr("shape that cannot be read"));
  dir_.Write("a.npy", Npy("|u1", "(0, 1, 1, 3)", ""));
  EXPECT_THAT(Error("a.npy"), HasSubstr("holds no picture"));
  dir_.Write("a.npy", NpyPictures(2));
  dir_.Write("labels.npy", Npy("|u1", "(3,)", "abc"));
  EXPECT_THAT(Error("a.npy"), HasSubstr("has 3 labels for the 2 pictures"));
  dir_.Write("labels.npy", Npy("<f8", "(2,)", std::string(16, '\0')));
  EXPECT_THAT(Error("a.npy"), HasSubstr("labels are whole numbers"));
}

}  // namespace
}  // namespace imageddpo

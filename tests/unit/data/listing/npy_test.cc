#include "rollout/data/listing/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "rollout/data/listing/check.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// An array file as numpy.save writes it.
std::string Npy(const std::string& dtype, const std::string& shape, const std::string& data,
                const std::string& order = "False") {
  std::string head =
      "{'descr': '" + dtype + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  head.resize((head.size() + 10) / 64 * 64 + 64 - 10 - 1, ' ');
  head += '\n';
  std::string file = std::string("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(head.size() & 255);
  file += static_cast<char>(head.size() >> 8);
  return file + head + data;
}

/// `count` pictures of 1 row and 2 columns; picture i is filled with i.
std::string Pictures(int count) {
  std::string data;
  for (int i = 0; i < count; ++i) data += std::string(6, static_cast<char>(i));
  return Npy("|u1", "(" + std::to_string(count) + ", 1, 2, 3)", data);
}

class NpyTest : public ::testing::Test {
 protected:
  std::string Error(const std::string& name) {
    return std::string(ListExamples(dir_ / name).status().message());
  }
  TempDir dir_;
};

TEST_F(NpyTest, CifarC) {
  dir_.Write("fog.npy", Pictures(10));
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

TEST_F(NpyTest, WithoutLabelsThereIsAWarning) {
  dir_.Write("mine.npy", Pictures(3));
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
  dir_.Write("a.npy", Pictures(2));
  dir_.Write("labels.npy", Npy("|u1", "(3,)", "abc"));
  EXPECT_THAT(Error("a.npy"), HasSubstr("has 3 labels for the 2 pictures"));
  dir_.Write("labels.npy", Npy("<f8", "(2,)", std::string(16, '\0')));
  EXPECT_THAT(Error("a.npy"), HasSubstr("labels are whole numbers"));
}

}  // namespace
}  // namespace imageddpo

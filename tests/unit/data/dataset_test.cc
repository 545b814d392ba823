#include "rollout/data/dataset.h"

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "common/base/text.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "rollout/data/corrupt/corrupt.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A picture in which every pixel differs.
Image Gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (const int value : {x * 5, y * 7, x + y}) {
        image.rgb.push_back(static_cast<uint8_t>(value));
      }
    }
  }
  return image;
}

class DatasetTest : public ::testing::Test {
 protected:
  void WriteImage(const std::string& name, int width, int height) {
    dir_.Write(name, *EncodePng(Gradient(width, height)));
  }
  std::string OpenError() const {
    const auto dataset = Dataset::Open(dir_.path());
    return dataset.ok() ? "no error" : std::string(dataset.status().message());
  }

  TempDir dir_;
};

TEST_F(DatasetTest, ReadsTheMetadataInItsOrder) {
  WriteImage("a.png", 4, 4);
  WriteImage("b.png", 4, 4);
  WriteImage("not listed.png", 4, 4);
  dir_.Write(
      "metadata.jsonl",
      "{\"file_name\": \"b.png\", \"label\": 1}\n{\"file_name\": \"a.png\", \"text\": \"t\"}\n");
  const auto dataset = Dataset::Open(dir_.path());
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  ASSERT_EQ(dataset->size(), 2);
  EXPECT_EQ(dataset->path(), dir_.path());
  EXPECT_EQ(dataset->at(0).id, "b.png");
  EXPECT_EQ(dataset->at(0).label, 1);
  EXPECT_EQ(dataset->at(1).text, "t");
  EXPECT_THROW(dataset->at(2), std::out_of_range);
  EXPECT_THROW(dataset->at(-1), std::out_of_range);
}

TEST_F(DatasetTest, WithoutMetadataTakesTheImagesOfTheFolder) {
  for (const char* name :
       {"c.PNG", "a.png", "b.jpeg", "d.JPG", ".hidden.png", "notes.txt", "sub/e.png"}) {
    WriteImage(name, 2, 2);
  }
  const auto dataset = Dataset::Open(dir_.path() + "/");
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  std::vector<std::string> ids;
  for (int64_t i = 0; i < dataset->size(); ++i) ids.push_back(dataset->at(i).id);
  EXPECT_EQ(ids, (std::vector<std::string>{"a.png", "b.jpeg", "c.PNG", "d.JPG", "sub/e.png"}));
  EXPECT_EQ(dataset->at(0).file_name, dir_ / "a.png");
  EXPECT_EQ(dataset->at(0).text, "");
}

TEST_F(DatasetTest, OpenErrorsNameTheFolder) {
  const auto missing = Dataset::Open(dir_ / "none");
  EXPECT_TRUE(absl::IsNotFound(missing.status()));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr(dir_ / "none"));
  EXPECT_THAT(OpenError(), AllOf(HasSubstr(dir_.path()), HasSubstr("metadata.jsonl")));

  dir_.Write("metadata.jsonl", "\n");
  EXPECT_THAT(OpenError(), AllOf(HasSubstr("metadata.jsonl'"), HasSubstr("names no image")));
  dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\"}");
  EXPECT_THAT(OpenError(), HasSubstr(dir_ / "metadata.jsonl:1: "));

  dir_.Write("file", "");
  EXPECT_FALSE(Dataset::Open(dir_ / "file").ok());
}

TEST_F(DatasetTest, ALinkOutOfTheFolderNeedsARoot) {
  const TempDir outside;
  outside.Write("a.png", *EncodePng(Gradient(2, 2)));
  std::filesystem::create_symlink(outside / "a.png", dir_ / "a.png");
  EXPECT_THAT(OpenError(), HasSubstr("allowed"));
  DatasetOptions options;
  options.allowed_roots = {dir_.path(), outside.path()};
  EXPECT_TRUE(Dataset::Open(dir_.path(), options).ok());
}

TEST_F(DatasetTest, LoadsAnImageOfTheRightSizeExactly) {
  WriteImage("a.png", 6, 4);
  const auto dataset = Dataset::Open(dir_.path());
  for (int pass = 0; pass < 2; ++pass) {  // The second comes from memory.
    const auto image_CHW = dataset->LoadImage(0, 6, 4);
    ASSERT_TRUE(image_CHW.ok()) << image_CHW.status();
    EXPECT_EQ(image_CHW->sizes(), (at::IntArrayRef{3, 4, 6}));
    EXPECT_TRUE(at::equal(*image_CHW, ImageToTensor(Gradient(6, 4))));
    image_CHW->fill_(0.0);  // The tensor is the caller's own.
  }
}

TEST_F(DatasetTest, ScalesAndCropsOtherSizes) {
  WriteImage("a.png", 30, 20);
  const auto dataset = Dataset::Open(dir_.path());
  const auto image_CHW = dataset->LoadImage(0, 8, 8);
  ASSERT_TRUE(image_CHW.ok());
  EXPECT_TRUE(at::equal(*image_CHW, ImageToTensor(ResizeAndCentreCrop(Gradient(30, 20), 8, 8))));
  EXPECT_EQ(dataset->LoadImage(0, 16, 12)->sizes(), (at::IntArrayRef{3, 12, 16}));
  EXPECT_TRUE(absl::IsInvalidArgument(dataset->LoadImage(0, 0, 8).status()));
}

TEST_F(DatasetTest, PadsOrStretchesWhereTheJobAsksForIt) {
  WriteImage("a.png", 30, 20);
  for (const ResizeMode mode : {ResizeMode::kCrop, ResizeMode::kPad, ResizeMode::kStretch}) {
    DatasetOptions options;
    options.form.resize = mode;
    const auto dataset = Dataset::Open(dir_.path(), options);
    EXPECT_TRUE(at::equal(dataset->LoadImage(0, 16, 12).value(),
                          ImageToTensor(ResizeTo(Gradient(30, 20), 16, 12, mode))));
  }
}

TEST_F(DatasetTest, ACorruptedImagesTargetIsTheCleanOne) {
  WriteImage("a.png", 40, 32);
  WriteImage("b.png", 32, 32);
  DatasetOptions options;
  options.form.corrupt = {.kind = CorruptKind::kGaussianNoise, .severity = 3, .seed = 4};
  const auto dataset = Dataset::Open(dir_.path(), options);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const Image clean = ResizeAndCentreCrop(Gradient(40, 32), 32, 32);
  const at::Tensor corrupted_CHW =
      ImageToTensor(Corrupt(clean, *options.form.corrupt, "a.png").value());
  for (int pass = 0; pass < 2; ++pass) {  // The second comes from memory.
    EXPECT_TRUE(at::equal(dataset->LoadImage(0, 32, 32).value(), corrupted_CHW));
    EXPECT_TRUE(at::equal(dataset->LoadTarget(0, 32, 32).value(), ImageToTensor(clean)));
  }
  EXPECT_FALSE(at::equal(dataset->LoadImage(1, 32, 32).value(), corrupted_CHW));
  EXPECT_TRUE(dataset->HasTarget(1));
}

TEST_F(DatasetTest, AnUnreadableImageNamesFileAndExample) {
  dir_.Write("a.png", "not an image");
  dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\", \"id\": \"seven\"}");
  const auto dataset = Dataset::Open(dir_.path());
  ASSERT_TRUE(dataset.ok());
  const absl::Status status = dataset->LoadImage(0, 8, 8).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("'seven'"), HasSubstr(dir_ / "a.png")));
}

TEST_F(DatasetTest, LoadsTheTargetOfAnExample) {
  WriteImage("a.png", 4, 4);
  WriteImage("clean/a.png", 30, 20);
  dir_.Write("metadata.jsonl",
             "{\"file_name\": \"a.png\", \"target_file_name\": \"clean/a.png\"}\n"
             "{\"file_name\": \"clean/a.png\"}");
  const auto dataset = Dataset::Open(dir_.path());
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const at::Tensor expected_CHW = ImageToTensor(ResizeAndCentreCrop(Gradient(30, 20), 8, 8));
  for (int pass = 0; pass < 2; ++pass) {  // The second comes from memory.
    EXPECT_TRUE(at::equal(dataset->LoadTarget(0, 8, 8).value(), expected_CHW));
    EXPECT_FALSE(at::equal(dataset->LoadImage(0, 8, 8).value(), expected_CHW));
  }
  const absl::Status status = dataset->LoadTarget(1, 8, 8).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("'clean/a.png'"), HasSubstr("target_file_name")));
}

TEST_F(DatasetTest, KeepsDecodedImagesWithinTheBudget) {
  WriteImage("a.png", 4, 4);
  WriteImage("b.png", 4, 4);
  DatasetOptions options;
  options.cache_bytes = 50;  // One image of 4·4·3 bytes.
  const auto dataset = Dataset::Open(dir_.path(), options);
  const at::Tensor a_CHW = dataset->LoadImage(0, 4, 4).value();
  ASSERT_TRUE(dataset->LoadImage(1, 4, 4).ok());
  std::filesystem::remove(dir_ / "a.png");
  std::filesystem::remove(dir_ / "b.png");
  EXPECT_TRUE(at::equal(dataset->LoadImage(0, 4, 4).value(), a_CHW));
  EXPECT_TRUE(absl::IsNotFound(dataset->LoadImage(1, 4, 4).status()));
  EXPECT_TRUE(absl::IsNotFound(dataset->LoadImage(0, 5, 4).status()));  // Another size.
}

TEST_F(DatasetTest, WhatIsLoadedAheadIsKeptForItsNextUse) {
  WriteImage("a.png", 4, 4);
  WriteImage("b.png", 4, 4);
  dir_.Write("metadata.jsonl", "{\"file_name\": \"a.png\", \"target_file_name\": \"b.png\"}\n");
  DatasetOptions options;
  options.cache_bytes = 0;
  const auto dataset = Dataset::Open(dir_.path(), options);
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const at::Tensor a_CHW = dataset->LoadImage(0, 4, 4).value();
  dataset->LoadAhead(0, 4, 4, /*with_target=*/true);
  std::filesystem::remove(dir_ / "a.png");
  std::filesystem::remove(dir_ / "b.png");
  dataset->LoadAhead(0, 4, 4, /*with_target=*/true);  // Is there already.
  EXPECT_TRUE(at::equal(dataset->LoadImage(0, 4, 4).value(), a_CHW));
  EXPECT_TRUE(dataset->LoadTarget(0, 4, 4).ok());
  EXPECT_TRUE(absl::IsNotFound(dataset->LoadImage(0, 4, 4).status()));
  dataset->LoadAhead(0, 4, 4, /*with_target=*/true);  // An error of the next LoadImage().
  EXPECT_TRUE(absl::IsNotFound(dataset->LoadImage(0, 4, 4).status()));
}

TEST_F(DatasetTest, KnowsWhichFilesCouldBeRead) {
  WriteImage("a.png", 4, 4);
  WriteImage("clean.png", 4, 4);
  dir_.Write("bad.png", "text");
  dir_.Write("metadata.jsonl",
             "{\"file_name\": \"a.png\", \"target_file_name\": \"clean.png\"}\n"
             "{\"file_name\": \"clean.png\"}\n"
             "{\"file_name\": \"bad.png\"}\n");
  const auto dataset = Dataset::Open(dir_.path());
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  ASSERT_TRUE(dataset->LoadImage(0, 4, 4).ok());
  EXPECT_FALSE(dataset->WasRead(0)) << "its target was not";
  ASSERT_TRUE(dataset->LoadTarget(0, 4, 4).ok());
  EXPECT_TRUE(dataset->WasRead(0));
  EXPECT_FALSE(dataset->WasRead(1)) << "it was as a target of another, which is not looked up";
  dataset->LoadAhead(1, 4, 4, /*with_target=*/false);
  EXPECT_TRUE(dataset->WasRead(1));
  dataset->LoadAhead(2, 4, 4, /*with_target=*/false);
  EXPECT_FALSE(dataset->WasRead(2));
}

TEST_F(DatasetTest, LoadsFromSeveralThreads) {
  for (int i = 0; i < 8; ++i) WriteImage(std::to_string(i) + ".png", 20 + i, 20);
  const auto dataset = Dataset::Open(dir_.path());
  std::vector<std::vector<at::Tensor>> loaded(4);
  std::vector<std::thread> threads;
  threads.reserve(loaded.size());
  for (auto& images : loaded) {
    threads.emplace_back([&] {
      for (int i = 0; i < 40; ++i) images.push_back(dataset->LoadImage(i % 8, 16, 16).value());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& images : loaded) {
    for (size_t i = 0; i < 40; ++i) EXPECT_TRUE(at::equal(images[i], loaded[0][i % 8]));
  }
}

TEST_F(DatasetTest, EveryNameIsAnIdOfItsOwnAndOpensItsFile) {
  std::vector<std::string> names = {"caf\xe9.png",          "caf\\xE9.png",
                                    "caf\xc3\xa9.png",      "-rf.png",
                                    " a 'b' \"c\".png",     "a\nb\x1b[2J.png",
                                    "\xf0\x9f\x90\xb1.png", std::string(251, 'x') + ".png"};
  int width = 1;
  for (const std::string& name : names) WriteImage(name, width++, 1);
  const auto dataset = Dataset::Open(dir_.path());
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  ASSERT_EQ(dataset->size(), static_cast<int64_t>(names.size()));
  std::set<std::string> ids;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    const Example& example = dataset->at(i);
    EXPECT_TRUE(IsValidUtf8(example.id));
    EXPECT_EQ(dir_ / BytesOf(example.id), example.file_name);
    const auto at = std::find(names.begin(), names.end(), BytesOf(example.id));
    ASSERT_NE(at, names.end()) << example.id;
    const int expected = static_cast<int>(at - names.begin()) + 1;
    EXPECT_TRUE(
        at::equal(*dataset->LoadImage(i, expected, 1), ImageToTensor(Gradient(expected, 1))));
    ids.insert(example.id);
  }
  EXPECT_EQ(ids.size(), names.size());
}

}  // namespace
}  // namespace imageddpo

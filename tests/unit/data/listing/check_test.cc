#include "rollout/data/listing/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "rollout/data/listing/listing.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Png() {
  return *EncodePng({.width = 8, .height = 4, .rgb = std::vector<uint8_t>(96, 7)});
}

/// A JPEG whose head is whole and whose pixels end early.
std::string CutOffJpeg() {
  Image image{.width = 256, .height = 200};
  for (int i = 0; i < 256 * 200 * 3; ++i) image.rgb.push_back(static_cast<uint8_t>(i * 37));
  const std::string whole = *EncodeJpeg(image, 90);
  return whole.substr(0, whole.size() * 6 / 10);
}

class CheckTest : public ::testing::Test {
 protected:
  CheckTest() {
    for (int i = 10; i < 50; ++i) dir_.Write(std::to_string(i) + ".png", Png());
  }
  ExampleTable Examples() { return ListExamples(dir_.path())->examples; }
  TempDir dir_;
};

TEST_F(CheckTest, HeadsOfAllFilesAreRead) {
  dir_.Write("20.png", "");
  dir_.Write("30.png", "RIFF1234WAVEfmt ");
  dir_.Write("40.png", CutOffJpeg());  // Its head is good.
  const ExampleTable examples = Examples();
  for (const int threads : {1, 7}) {
    const auto scan = ScanHeaders(examples, {.num_threads = threads});
    ASSERT_TRUE(scan.ok()) << scan.status();
    ASSERT_EQ(scan->bad.size(), 2);
    EXPECT_EQ(scan->bad[0].index, 10);
    EXPECT_THAT(std::string(scan->bad[0].status.message()),
                AllOf(HasSubstr(dir_ / "20.png"), HasSubstr("empty")));
    EXPECT_EQ(scan->bad[1].index, 20);
    ASSERT_EQ(scan->sizes_bytes.size(), 40);
    EXPECT_EQ(scan->sizes_bytes[0], Png().size());
    EXPECT_EQ(scan->sizes_bytes[10], 0);
  }
}

TEST_F(CheckTest, EveryImageIsDecodedOnce) {
  dir_.Write("40.png", CutOffJpeg());
  int good = 0, bad = 0;
  const auto found = DecodeAll(Examples(), {.num_threads = 3}, [&](int64_t i, const Image* image) {
    EXPECT_EQ(image == nullptr, i == 30);
    ++(image != nullptr ? good : bad);
  });
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1);
  EXPECT_EQ((*found)[0].index, 30);
  EXPECT_THAT(std::string((*found)[0].status.message()), HasSubstr(dir_ / "40.png"));
  EXPECT_EQ(good, 39);
  EXPECT_EQ(bad, 1);
}

TEST_F(CheckTest, TargetsAreCheckedToo) {
  dir_.Write("bad.png", "text");
  dir_.Write("metadata.jsonl", "{\"file_name\": \"10.png\", \"target_file_name\": \"bad.png\"}");
  const auto scan = ScanHeaders(Examples(), {});
  ASSERT_TRUE(scan.ok());
  ASSERT_EQ(scan->bad.size(), 1);
  EXPECT_THAT(std::string(scan->bad[0].status.message()),
              AllOf(HasSubstr("the target of '10.png'"), HasSubstr(dir_ / "bad.png")));
  EXPECT_EQ(DecodeAll(Examples(), {})->size(), 1);
}

TEST_F(CheckTest, StopsWhenItIsAskedTo) {
  EXPECT_TRUE(absl::IsCancelled(
      ScanHeaders(Examples(), {.num_threads = 2, .is_stopped = [] { return true; }}).status()));
}

TEST_F(CheckTest, TheTextNamesTheFirstAndCountsTheOthers) {
  std::vector<std::string> faults;
  for (int i = 0; i < 23; ++i) faults.push_back("fault " + std::to_string(i));
  const std::string text = BadImagesText("/data", 2000, faults);
  EXPECT_THAT(text, AllOf(HasSubstr("23 of 2000 images of '/data'"), HasSubstr("\n  fault 19\n"),
                          HasSubstr("and 3 more"), ::testing::Not(HasSubstr("fault 20"))));
}

TEST_F(CheckTest, AFaultIsOneLineWhateverTheFilesName) {
  dir_.Write("a\n  b.png", "text");
  const auto bad = DecodeAll(Examples(), {});
  ASSERT_TRUE(bad.ok()) << bad.status();
  ASSERT_EQ(bad->size(), 1);
  const std::string text = BadImagesText("/data", 41, {std::string((*bad)[0].status.message())});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_THAT(text, HasSubstr("a\\x0A  b.png"));
}

TEST_F(CheckTest, TheBackgroundFindsWhatHeadsDoNotTell) {
  dir_.Write("40.png", CutOffJpeg());
  const ExampleTable examples = Examples();
  const auto run = [&](std::vector<int64_t> share, std::function<bool(int64_t)> was_read = {}) {
    BackgroundDecode decode(&examples, std::move(share), std::move(was_read));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!decode.done() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(decode.done());
    return decode.status();
  };
  EXPECT_TRUE(run({0, 1, 2, 29}).ok());
  const absl::Status status = run({29, 30, 31});
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(dir_ / "40.png"), HasSubstr("1 of 40"), HasSubstr("data.on_error")));
  // What was decoded elsewhere is not decoded again.
  EXPECT_TRUE(run({29, 30, 31}, [](int64_t i) { return i == 30; }).ok());
  EXPECT_FALSE(run({29, 30, 31}, [](int64_t i) { return i == 29; }).ok());
}

}  // namespace
}  // namespace imageddpo

#include "rollout/data/listing/open_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string PngOf(uint8_t value = 7) {
  return *EncodePng({.width = 4, .height = 2, .rgb = std::vector<uint8_t>(24, value)});
}

class OpenSetTest : public ::testing::Test {
 protected:
  OpenSetTest() {
    for (const char* name : {"a.png", "b.png", "c.png", "d.png"}) dir_.Write(name, PngOf());
    options_.check.num_threads = 2;
  }
  OpenedSet Open() {
    absl::StatusOr<OpenedSet> set = OpenSet(dir_.path(), options_);
    EXPECT_TRUE(set.ok()) << set.status();
    return set.ok() ? *std::move(set) : OpenedSet{};
  }
  std::string Error() { return std::string(OpenSet(dir_.path(), options_).status().message()); }
  /// A PNG with a good head and nothing behind it.
  void Cut(const std::string& name) { dir_.Write(name, PngOf().substr(0, 40)); }

  TempDir dir_;
  OpenOptions options_;
};

TEST_F(OpenSetTest, FailNamesAllBadFilesAtOnce) {
  dir_.Write("b.png", "text");
  dir_.Write("d.png", "");
  EXPECT_THAT(Error(), AllOf(HasSubstr("2 of 4 images"), HasSubstr(dir_ / "b.png"),
                             HasSubstr(dir_ / "d.png"), HasSubstr("data.on_error: skip")));
  dir_.Write(
      "metadata.jsonl",
      "{\"file_name\": \"none.png\"}\n{\"file_name\": \"a.png\"}\n{\"file_name\": \"b.png\"}");
  EXPECT_THAT(Error(), AllOf(HasSubstr("2 of 3 images"), HasSubstr("metadata.jsonl:1: "),
                             HasSubstr(dir_ / "b.png")));
}

TEST_F(OpenSetTest, SkipGoesOnWithTheOthers) {
  options_.on_error = OnDataError::kSkip;
  dir_.Write("d.png", "text");
  Cut("b.png");
  const OpenedSet set = Open();
  ASSERT_EQ(set.listing.examples.size(), 2);
  EXPECT_EQ(set.listing.examples.id(0), "a.png");
  EXPECT_EQ(set.listing.examples.id(1), "c.png");
  EXPECT_EQ(set.num_listed, 4);
  EXPECT_THAT(set.skipped, ElementsAre("b.png", "d.png"));
  EXPECT_THAT(set.listing.warnings,
              ElementsAre(AllOf(HasSubstr("2 of 4 images"), HasSubstr("skipped"))));
  EXPECT_EQ(set.fingerprint.ids, (std::vector<std::string>{"a.png", "c.png"}));
  for (const char* name : {"a.png", "c.png"}) Cut(name);
  EXPECT_THAT(Error(), HasSubstr("4 of 4 images"));
}

TEST_F(OpenSetTest, WhatWasSkippedIsSkippedAgain) {
  options_.on_error = OnDataError::kSkip;
  Cut("b.png");
  const OpenedSet before = Open();
  options_.before = before.ToJson();
  dir_.Write("b.png", PngOf());  // Repaired: the job goes on with the images it had.
  const OpenedSet now = Open();
  EXPECT_EQ(now.ToJson(), before.ToJson());
  EXPECT_EQ(now.listing.examples.size(), 3);
  // A job that starts takes it in.
  options_.before = nullptr;
  EXPECT_EQ(Open().listing.examples.size(), 4);
}

TEST_F(OpenSetTest, AChangeIsRefusedWithWhatChanged) {
  options_.before = Open().ToJson();
  EXPECT_EQ(Error(), "");
  dir_.Write("e.png", PngOf());
  std::filesystem::remove(dir_ / "a.png");
  dir_.Write("b.txt", "a prompt");
  EXPECT_THAT(
      Error(),
      AllOf(HasSubstr("1 image was added (e.png)"), HasSubstr("1 image was removed (a.png)"),
            HasSubstr("changed: prompt, label, metadata or size of the file (b.png)"),
            HasSubstr("data.allow_change: true")));
  options_.allow_change = true;
  const OpenedSet set = Open();
  EXPECT_EQ(set.listing.examples.size(), 4);
  EXPECT_THAT(set.listing.warnings, testing::Contains(HasSubstr("1 image was added (e.png)")));
}

TEST_F(OpenSetTest, TheFingerprintKnowsEverythingThatATrainingSees) {
  const auto sha256 = [this] { return Open().fingerprint.sha256; };
  std::vector<std::string> seen = {sha256()};
  const auto write = [this](const std::string& first, const std::string& second) {
    dir_.Write("metadata.jsonl", first + "\n" + second + "\n");
  };
  const std::string b = R"({"file_name": "b.png"})";
  for (const auto& [first, second] : std::vector<std::pair<std::string, std::string>>{
           {R"({"file_name": "a.png"})", b},
           {b, R"({"file_name": "a.png"})"},
           {R"({"file_name": "a.png", "text": "x"})", b},
           {R"({"file_name": "a.png", "label": 0})", b},
           {R"({"file_name": "a.png", "label": 1})", b},
           {R"({"file_name": "a.png", "n": 1})", b},
           {R"({"file_name": "a.png", "id": "x"})", b},
           {R"({"file_name": "a.png", "target_file_name": "c.png"})", b},
           {R"({"file_name": "a.png", "target_file_name": "d.png"})", b}}) {
    write(first, second);
    seen.push_back(sha256());
  }
  dir_.Write("b.png", *EncodePng({.width = 90, .height = 1, .rgb = std::vector<uint8_t>(270, 1)}));
  seen.push_back(sha256());
  EXPECT_EQ(sha256(), seen.back());
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
}

TEST_F(OpenSetTest, AMovedFolderIsTheSame) {
  dir_.Write("metadata.jsonl",
             R"({"file_name": "a.png", "mask_file_name": "b.png", "target_file_name": "c.png"})");
  const OpenedSet before = Open();
  const TempDir other;
  std::filesystem::copy(dir_.path(), other / "moved");
  options_.before = before.ToJson();
  EXPECT_TRUE(OpenSet(other / "moved", options_).ok());
}

TEST_F(OpenSetTest, AnotherOrderIsAChange) {
  const std::string a = "{\"file_name\": \"a.png\"}\n", b = "{\"file_name\": \"b.png\"}\n";
  dir_.Write("metadata.jsonl", a + b);
  options_.before = Open().ToJson();
  dir_.Write("metadata.jsonl", b + a);
  EXPECT_THAT(Error(), HasSubstr("the order of the images has changed"));
  options_.before = nlohmann::json{{"sha256", 3}};
  EXPECT_THAT(Error(), HasSubstr("state.json: data"));
}

}  // namespace
}  // namespace imageddpo

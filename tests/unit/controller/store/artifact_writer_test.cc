#include "trainer/controller/store/artifact_writer.h"

#include <functional>
#include <memory>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/full_disk.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) absl::SleepFor(absl::Milliseconds(5));
  return condition();
}

class ArtifactWriterTest : public testing::Test {
 protected:
  ArtifactWriter::Folder FolderOf(const std::string& job_id, const std::string& name,
                                  const std::string& bytes = "bytes") const {
    return {job_id, dir_ / name, {{"0.png", bytes}, {"1.png", bytes}}};
  }
  std::vector<ArtifactWriter::Outcome> Errors(ArtifactWriter& writer) {
    std::vector<ArtifactWriter::Outcome> errors;
    Eventually([&] {
      for (const auto& error : writer.TakeErrors()) errors.push_back(error);
      return !errors.empty();
    });
    return errors;
  }

  TempDir dir_;
  FullDisk disk_;
  FakeClock clock_;
};

TEST_F(ArtifactWriterTest, WritesWhatWaitsBeforeItEnds) {
  {
    ArtifactWriter writer({}, disk_, clock_);
    for (const char* name : {"a", "b/c"}) EXPECT_TRUE(writer.Put(FolderOf("job", name)).ok());
    EXPECT_FALSE(writer.HasWork("other"));
  }
  for (const char* name : {"a/0.png", "a/1.png", "b/c/0.png", "b/c/1.png"}) {
    EXPECT_EQ(dir_.Read(name), "bytes");
  }
}

TEST_F(ArtifactWriterTest, LinesAreAppendedAndTheFileChanges) {
  ArtifactWriter::Lines lines{
      .job_id = "job", .directory = dir_ / "job", .name = "log", .text = "", .max_file_bytes = 8};
  {
    ArtifactWriter writer({}, disk_, clock_);
    for (const char* text : {"1\n", "2\n", "3\n"}) {
      lines.text = text;
      EXPECT_TRUE(writer.Append(lines).ok());
      EXPECT_TRUE(Eventually([&] { return !writer.HasWork("job"); }));
    }
    EXPECT_EQ(dir_.Read("job/log"), "1\n2\n3\n");
    lines.text = "four\n";
    EXPECT_TRUE(writer.Append(lines).ok());
  }
  EXPECT_EQ(dir_.Read("job/log"), "four\n");
  EXPECT_EQ(dir_.Read("job/log.1"), "1\n2\n3\n");
}

TEST_F(ArtifactWriterTest, LinesThatWaitAreWrittenTogetherAndHaveALimit) {
  disk_.FullFor("/job");
  ArtifactWriter writer({}, disk_, clock_);
  ArtifactWriter::Lines lines{.job_id = "job",
                              .directory = dir_ / "job",
                              .name = "log",
                              .text = "first\n",
                              .max_file_bytes = 4 << 20};
  ASSERT_TRUE(writer.Append(lines).ok());
  const auto errors = Errors(writer);  // It is being tried.
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_STREQ(errors[0].what, "log lines");
  lines.text = std::string(ArtifactWriter::kMaxWaitingLines, 'x');
  EXPECT_TRUE(writer.Append(lines).ok());
  lines.text = "no more\n";
  EXPECT_TRUE(absl::IsResourceExhausted(writer.Append(lines)));
  disk_.FullFor("");
  clock_.Advance(2);
  EXPECT_TRUE(Eventually([&] { return !writer.HasWork("job"); }));
  EXPECT_EQ(dir_.Read("job/log").size(), 6 + ArtifactWriter::kMaxWaitingLines);
}

TEST_F(ArtifactWriterTest, AFullDiskIsTriedAgainAndToldOnce) {
  ArtifactWriter writer({}, disk_, clock_);
  disk_.FullFor("/a");
  ASSERT_TRUE(writer.Put(FolderOf("job", "a")).ok());
  const auto errors = Errors(writer);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(errors[0].job_id, "job");
  EXPECT_FALSE(errors[0].given_up);
  EXPECT_TRUE(absl::IsResourceExhausted(errors[0].status));
  EXPECT_TRUE(writer.HasWork("job"));
  disk_.FullFor("");
  clock_.Advance(2);
  EXPECT_TRUE(Eventually([&] { return !writer.HasWork("job"); }));
  EXPECT_EQ(dir_.Read("a/1.png"), "bytes");
  EXPECT_THAT(writer.TakeErrors(), IsEmpty());
}

TEST_F(ArtifactWriterTest, WhatLastsTooLongIsGivenUpAndTheNextWritten) {
  ArtifactWriter writer({.patience_seconds = 10}, disk_, clock_);
  disk_.FullFor("/a");
  ASSERT_TRUE(writer.Put(FolderOf("job", "a")).ok());
  ASSERT_THAT(Errors(writer), SizeIs(1));
  ASSERT_TRUE(writer.Put(FolderOf("job", "b")).ok());
  clock_.Advance(20);
  const auto errors = Errors(writer);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_TRUE(errors[0].given_up);
  EXPECT_TRUE(Eventually([&] { return !writer.HasWork("job"); }));
  EXPECT_EQ(dir_.Read("b/0.png"), "bytes");
}

TEST_F(ArtifactWriterTest, ANameThatIsNoFileNameIsGivenUpAtOnce) {
  ArtifactWriter writer({}, disk_, clock_);
  ASSERT_TRUE(writer.Put({"job", dir_ / "a", {{"../escaped.png", "bytes"}}}).ok());
  const auto errors = Errors(writer);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_TRUE(errors[0].given_up);
  EXPECT_TRUE(absl::IsInvalidArgument(errors[0].status));
}

TEST_F(ArtifactWriterTest, MoreThanTheBoundIsRefusedWithoutWaiting) {
  ArtifactWriter writer({.max_bytes = 100}, disk_, clock_);
  disk_.FullFor("/a");
  ASSERT_TRUE(writer.Put(FolderOf("job", "a", std::string(200, 'x'))).ok());  // The queue is empty.
  const absl::Status status = writer.Put(FolderOf("job", "b"));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("are left out"));
  EXPECT_EQ(FaultOf(status), (Fault{Whose::kService, /*passes=*/true}));
  disk_.FullFor("");  // It ends at once.
}

}  // namespace
}  // namespace imageddpo

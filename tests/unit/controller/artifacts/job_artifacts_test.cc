#include "trainer/controller/artifacts/job_artifacts.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/faulty_file_system.h"
#include "tests/testing/full_disk.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

v1::EpochReport ReportOf(int64_t epoch, int updates = 2) {
  v1::EpochReport report;
  report.mutable_metrics()->set_epoch(epoch);
  for (int update = 0; update < updates; ++update) {
    report.add_metrics_rows("{\"epoch\":" + std::to_string(epoch) +
                            ",\"update\":" + std::to_string(epoch * updates + update) + "}");
  }
  report.set_timings_row("{\"epoch\":" + std::to_string(epoch) + "}\n");
  return report;
}

class ArtifactsTest : public testing::Test {
 protected:
  ArtifactsTest() : artifacts_(file_system_, dir_ / "job") {
    EXPECT_TRUE(artifacts_.Begin(v1::JobSpec()).ok());
  }
  TempDir dir_;
  PosixFileSystem file_system_;
  JobArtifacts artifacts_;
};

TEST_F(ArtifactsTest, RowsAreAppendedOnePerUpdate) {
  for (const int64_t epoch : {0, 1}) ASSERT_TRUE(artifacts_.WriteEpoch(ReportOf(epoch)).ok());
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"),
            "{\"epoch\":0,\"update\":0}\n{\"epoch\":0,\"update\":1}\n"
            "{\"epoch\":1,\"update\":2}\n{\"epoch\":1,\"update\":3}\n");
  EXPECT_EQ(dir_.Read("job/timings.jsonl"), "{\"epoch\":0}\n{\"epoch\":1}\n");
}

TEST_F(ArtifactsTest, CutBackLeavesTheBytesOfEarlierEpochs) {
  for (const int64_t epoch : {0, 1, 2}) ASSERT_TRUE(artifacts_.WriteEpoch(ReportOf(epoch)).ok());
  const std::string whole = dir_.Read("job/metrics.jsonl");
  ASSERT_TRUE(artifacts_.CutBackTo(2).ok());
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"), whole.substr(0, whole.find("{\"epoch\":2")));
  EXPECT_EQ(dir_.Read("job/timings.jsonl"), "{\"epoch\":0}\n{\"epoch\":1}\n");
  ASSERT_TRUE(artifacts_.WriteEpoch(ReportOf(2)).ok());
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"), whole);
  ASSERT_TRUE(artifacts_.CutBackTo(0).ok());
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"), "");
}

TEST_F(ArtifactsTest, CutBackDropsATornLine) {
  dir_.Write("job/metrics.jsonl", "{\"epoch\":0}\n{\"epoch\":1,\"rew");
  ASSERT_TRUE(artifacts_.CutBackTo(5).ok());
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"), "{\"epoch\":0}\n");
  ASSERT_TRUE(artifacts_.CutBackTo(5).ok());
}

TEST_F(ArtifactsTest, PicturesGoToTheirEpoch) {
  v1::EpochReport report = ReportOf(12);
  auto* picture = report.add_pictures();
  picture->set_name("3.png");
  picture->set_data("bytes");
  v1::EvalReport eval;
  eval.set_epoch(10);
  eval.set_rows("{}\n");
  *eval.add_pictures() = *picture;
  report.set_job_id("job-000001");
  const ArtifactWriter::Folder samples = artifacts_.TakePictures(&report);
  EXPECT_EQ(samples.job_id, "job-000001");
  EXPECT_EQ(samples.directory, dir_ / "job/samples/epoch-000012");
  EXPECT_THAT(samples.files, ElementsAre(Pair("3.png", "bytes")));
  EXPECT_EQ(report.pictures_size(), 0);

  ASSERT_TRUE(artifacts_.WriteEval(eval).ok());
  ASSERT_TRUE(artifacts_.WriteEval(eval).ok());  // Again, after a resume.
  EXPECT_EQ(dir_.Read("job/eval/epoch-000010.jsonl"), "{}\n");
  EXPECT_EQ(artifacts_.TakePictures(&eval).directory, dir_ / "job/eval/epoch-000010");
}

TEST_F(ArtifactsTest, WhatACrashLeftHalfWrittenGoes) {
  dir_.Write("job/.job.yaml.tmp-1-1", "half");
  dir_.Write("job/eval/.epoch-000000.jsonl.tmp-1-1", "half");
  ASSERT_TRUE(artifacts_.Begin(v1::JobSpec()).ok());
  ASSERT_TRUE(artifacts_.WriteEval(v1::EvalReport()).ok());
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ / "job")) {
    EXPECT_THAT(entry.path().filename().string(), Not(HasSubstr(".tmp-")));
  }
}

TEST_F(ArtifactsTest, AnEvaluationThatAFullDiskRefusedComesWithTheNextSync) {
  FullDisk disk;
  JobArtifacts artifacts(disk, dir_ / "job");
  v1::EvalReport eval;
  eval.set_epoch(10);
  eval.set_rows("{}\n");
  disk.FullFor("epoch-000010");
  EXPECT_TRUE(absl::IsResourceExhausted(artifacts.WriteEval(eval)));
  disk.FullFor("");
  ASSERT_TRUE(artifacts.SyncRows().ok());
  EXPECT_EQ(dir_.Read("job/eval/epoch-000010.jsonl"), "{}\n");
}

TEST_F(ArtifactsTest, RowsThatAFullDiskRefusedComeWithTheNext) {
  FaultyFileSystem full_once(FaultyFileSystem::Fault::kDiskFull, 0);
  JobArtifacts artifacts(full_once, dir_ / "job");
  const absl::Status status = artifacts.WriteEpoch(ReportOf(0));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("metrics.jsonl"));
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"), "");
  ASSERT_TRUE(artifacts.WriteEpoch(ReportOf(1)).ok());
  EXPECT_EQ(dir_.Read("job/metrics.jsonl"),
            "{\"epoch\":0,\"update\":0}\n{\"epoch\":0,\"update\":1}\n"
            "{\"epoch\":1,\"update\":2}\n{\"epoch\":1,\"update\":3}\n");
}

TEST_F(ArtifactsTest, SyncWritesWhatWasRefused) {
  FaultyFileSystem full_once(FaultyFileSystem::Fault::kDiskFull, 0);
  JobArtifacts artifacts(full_once, dir_ / "job");
  EXPECT_FALSE(artifacts.WriteEpoch(ReportOf(0)).ok());
  ASSERT_TRUE(artifacts.SyncRows().ok());
  EXPECT_THAT(dir_.Read("job/metrics.jsonl"), HasSubstr("\"update\":1"));
  EXPECT_TRUE(JobArtifacts(file_system_, dir_ / "nowhere").SyncRows().ok());  // Nothing to sync.
}

}  // namespace
}  // namespace imageddpo

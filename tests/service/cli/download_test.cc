// `imageddpo download` as a process: what it asks for, what it does with what comes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/service/cli/fake_service.h"
#include "tests/service/cli/program.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLora[] = "checkpoints/epoch-000004/pytorch_lora_weights.safetensors";

class DownloadTest : public ::testing::Test {
 protected:
  DownloadTest() {
    for (int i = 0; i < 250; ++i) lora_.push_back(static_cast<char>(i));
    v1::Job job;
    job.set_id("job-000001");
    job.set_output_dir("/data/jobs/job-000001");
    job.set_lora_path("/data/jobs/job-000001/" + std::string(kLora));
    service_.SetJob(job);
    service_.SetFile(kLora, lora_);
    service_.SetFile("checkpoints/epoch-000004/MANIFEST", "{}");
    service_.SetFile("checkpoints/epoch-0000040/MANIFEST", "of another");
  }

  /// Runs to its end; files go to out/.
  int Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--address", service_.address(), "download"});
    arguments.insert(arguments.end(), {"-o", dir_ / "out"});
    program_ = std::make_unique<ClientProgram>(dir_.path(), arguments);
    return program_->Wait();
  }
  std::string Out(const std::string& name) const { return dir_.Read("out/" + name); }
  bool IsThere(const std::string& name) const {
    return std::filesystem::exists(dir_ / ("out/" + name));
  }

  TempDir dir_;
  FakeService service_;
  std::string lora_;  // Three parts.
  std::unique_ptr<ClientProgram> program_;
};

TEST_F(DownloadTest, WithoutNamesTheNewestLoraComes) {
  ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
  EXPECT_EQ(program_->out(), (dir_ / "out/") + kLora + "\n");
  EXPECT_EQ(Out(kLora), lora_);
  EXPECT_FALSE(IsThere(std::string(kLora) + ".part"));
  EXPECT_FALSE(IsThere("job.yaml"));
  EXPECT_THAT(service_.downloaded_from(), ElementsAre(0));
}

TEST_F(DownloadTest, AFileThatIsThereIsNotSentAgain) {
  ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
  ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
  EXPECT_THAT(service_.downloaded_from(), ElementsAre(0, 250));
  service_.SetFile(kLora, std::string(250, 'x'));  // Another one of the same size.
  ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
  EXPECT_EQ(Out(kLora), std::string(250, 'x'));
}

TEST_F(DownloadTest, ABrokenConnectionIsTakenUpAgain) {
  service_.BreakDownloadAfter(2);
  ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
  EXPECT_THAT(service_.downloaded_from(), ElementsAre(0, 200));
  EXPECT_EQ(Out(kLora), lora_);
}

TEST_F(DownloadTest, APartOfAnEarlierRunIsKept) {
  service_.BreakDownloadAfter(1);
  ASSERT_EQ(Run({"job-000001", "--wait", "0"}), 4) << program_->out();
  EXPECT_FALSE(IsThere(kLora)) << "whole or not at all";
  EXPECT_EQ(Out(std::string(kLora) + ".part"), lora_.substr(0, 100));
  ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
  EXPECT_THAT(service_.downloaded_from(), ElementsAre(0, 100));
  EXPECT_EQ(Out(kLora), lora_);
}

TEST_F(DownloadTest, APartOfAnotherFileIsNotGoneOnWith) {
  for (const size_t size : {50, 400}) {  // Shorter and longer than the file.
    dir_.Write("out/" + std::string(kLora) + ".part", std::string(size, 'x'));
    ASSERT_EQ(Run({"job-000001"}), 0) << program_->err();
    EXPECT_EQ(Out(kLora), lora_);
    std::filesystem::remove(dir_ / ("out/" + std::string(kLora)));
  }
}

TEST_F(DownloadTest, NamesFoldersAndCheckpointsAreChosen) {
  ASSERT_EQ(Run({"job-000001", "job.yaml"}), 0) << program_->err();
  EXPECT_EQ(Out("job.yaml"), std::string(600, 'y'));
  EXPECT_FALSE(IsThere(kLora));
  ASSERT_EQ(Run({"job-000001", "--checkpoint", "4"}), 0) << program_->err();
  EXPECT_EQ(Out(kLora), lora_);
  EXPECT_EQ(Out("checkpoints/epoch-000004/MANIFEST"), "{}");
  EXPECT_FALSE(IsThere("checkpoints/epoch-0000040/MANIFEST"));
  ASSERT_EQ(Run({"job-000001", "--all"}), 0) << program_->err();
  EXPECT_EQ(Out("metrics.jsonl"), std::string(600, 'm'));
}

TEST_F(DownloadTest, WhatIsNotThereIsSaid) {
  EXPECT_EQ(Run({"job-000001", "samples"}), 3);
  EXPECT_THAT(program_->err(), HasSubstr("job-000001 has no file samples; see"));
  EXPECT_EQ(Run({"job-000001", "--best"}), 2);
  EXPECT_THAT(program_->err(), HasSubstr("job-000001 has no best LoRA"));
  EXPECT_EQ(Run({"job-000077"}), 3);
  service_.SetFile("../escape", "evil");
  EXPECT_EQ(Run({"job-000001", "--all"}), 1);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "escape"));
}

}  // namespace
}  // namespace imageddpo

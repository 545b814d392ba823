#include "common/worker/job_log_sink.h"

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/base/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class JobLogSinkTest : public testing::Test {
 protected:
  JobLogSinkTest() {
    logger_ = WithJob(**MakeLogger({.level = "info", .stream = &stream_}), "job-000001");
    logger_->sinks().push_back(sink_);
  }

  FakeClock clock_;
  std::ostringstream stream_;
  std::vector<v1::LogReport> sent_;
  std::shared_ptr<JobLogSink> sink_ = std::make_shared<JobLogSink>(
      "job-000001", [this](v1::WorkerMessage message) { sent_.push_back(message.log()); }, clock_);
  std::shared_ptr<spdlog::logger> logger_;
};

TEST_F(JobLogSinkTest, SendsLinesOfTheLoggersLevelCutAndValid) {
  logger_->debug("not this");
  logger_->warn("a\xff{}", std::string(5000, 'b'));
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0].job_id(), "job-000001");
  EXPECT_EQ(sent_[0].level(), "warning");
  EXPECT_THAT(sent_[0].message(), testing::StartsWith("a\\xFFbbb"));
  EXPECT_LE(sent_[0].message().size(), JobLogSink::kMaxLineBytes + 3) << "and …";
  EXPECT_THAT(stream_.str(), HasSubstr("bbb")) << "the process's own log has it too";
}

TEST_F(JobLogSinkTest, CountsAndTellsWhatItLeavesOut) {
  const auto burst = static_cast<size_t>(JobLogSink::kBurst);
  for (size_t i = 0; i < burst + 5; ++i) logger_->info("line {}", i);
  ASSERT_EQ(sent_.size(), burst);
  clock_.Advance(1);
  logger_->info("after");
  ASSERT_EQ(sent_.size(), burst + 2);
  EXPECT_THAT(sent_[burst].message(), HasSubstr("5 lines are left out"));
  EXPECT_EQ(sent_[burst].level(), "warning");
  EXPECT_EQ(sent_[burst + 1].message(), "after");
  sink_->Close();
  EXPECT_EQ(sent_.size(), burst + 2) << "nothing more to tell";
  for (int i = 0; i < 20; ++i) logger_->info("again");
  sink_->Close();
  EXPECT_THAT(sent_.back().message(), HasSubstr("11 lines are left out"));
}

}  // namespace
}  // namespace imageddpo

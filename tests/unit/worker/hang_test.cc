// Jobs that hang: when that is told, what the rank leaves behind, and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "common/base/logging.h"
#include "common/comm/local_control_channel.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/worker/exit_codes.h"
#include "common/worker/stack_dump.h"
#include "common/worker/stage_deadline.h"
#include "common/worker/worker.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(StageDeadline, TheFirstItemHasTheJobsLimitAndLaterOnesTenTimesTheLongest) {
  StageDeadline deadline(3600);
  EXPECT_FALSE(deadline.Look("sampling", 1, 0).has_value());
  EXPECT_FALSE(deadline.Look("sampling", 1, 20).has_value()) << "there is no past";
  EXPECT_FALSE(deadline.Look(nullptr, 2, 0).has_value());
  EXPECT_FALSE(deadline.Look(nullptr, 2, 100'000).has_value()) << "it waits for others";
  EXPECT_FALSE(deadline.Look("sampling", 3, 0).has_value());
  EXPECT_FALSE(deadline.Look("sampling", 3, 200).has_value());
  const auto hang = deadline.Look("sampling", 3, 1);
  ASSERT_TRUE(hang.has_value());
  EXPECT_EQ(hang->stage, "sampling");
  EXPECT_EQ(hang->seconds, 201);
  EXPECT_EQ(hang->limit, 200);
  EXPECT_FALSE(deadline.Look("training", 4, 0).has_value()) << "another stage has no past yet";
  EXPECT_FALSE(deadline.Look("training", 4, 3600).has_value());
  EXPECT_TRUE(deadline.Look("training", 4, 1).has_value());
}

TEST(StageDeadline, ShortItemsHaveAMinuteAndTheJobsLimitIsNeverPassed) {
  StageDeadline deadline(90);
  deadline.Look("training", 1, 0);
  deadline.Look("training", 2, 0.1);
  EXPECT_FALSE(deadline.Look("training", 2, 60).has_value());
  EXPECT_TRUE(deadline.Look("training", 2, 0.1).has_value());
  deadline.Look("training", 3,
                0);  // That took a minute after all: ten minutes, but for the job's limit.
  EXPECT_FALSE(deadline.Look("training", 3, 90).has_value());
  EXPECT_EQ(deadline.Look("training", 3, 1)->limit, 90);
  StageDeadline none(0);
  none.Look("training", 1, 0);
  EXPECT_FALSE(none.Look("training", 1, 1e9).has_value());
}

TEST(DumpStack, WritesTheFramesOfAThreadThatWaits) {
  std::atomic<pid_t> thread_id{0};
  absl::Notification done;
  std::thread thread([&] {
    thread_id = gettid();
    done.WaitForNotification();
  });
  while (thread_id == 0) std::this_thread::sleep_for(milliseconds(1));
  std::FILE* const file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  for (int twice = 0; twice < 2; ++twice) {
    const absl::Status status = DumpStack(thread_id, fileno(file));
    EXPECT_TRUE(status.ok()) << status;
  }
  done.Notify();
  thread.join();
  std::rewind(file);
  std::string text(1 << 16, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  EXPECT_THAT(text, HasSubstr("unit_worker"));
  EXPECT_FALSE(DumpStack(1 << 30, STDERR_FILENO).ok()) << "there is no such thread";
}

TEST(Worker, AHangingJobIsToldWithItsStackAndEndsTheRank) {
  LocalControlPlane plane({1});
  SystemClock clock;
  absl::Notification release;
  Worker worker({.channel = plane.worker(1),
                 .open_gang = [](const v1::GangLayout&) { return MakeSoloCommunicator(); },
                 .run_job =
                     [&](JobContext& context) {
                       const StageMark::Item item(context.stage, "scoring");
                       release.WaitForNotification();  // As a reward that never returns.
                       return absl::OkStatus();
                     },
                 .device = at::kCPU,
                 .clock = clock,
                 .logger = *MakeLogger({.level = "off"})},
                {.lease_timeout = std::chrono::seconds(30)});
  v1::ControllerMessage start;
  start.mutable_start_job()->set_job_id("job-000001");
  start.mutable_start_job()->mutable_spec()->set_max_stage_seconds(0.3);
  start.mutable_start_job()->mutable_gang()->set_tag("a");
  start.mutable_start_job()->mutable_gang()->add_world_ranks(1);
  plane.controller().Send(1, std::move(start));
  testing::internal::CaptureStderr();
  EXPECT_EQ(worker.Run(), kExitRestart);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("unit_worker"));
  EXPECT_TRUE(worker.job_abandoned());
  bool told = false;
  while (auto message = plane.controller().Receive(milliseconds(10))) {
    if (!message->second.has_hung()) continue;
    told = true;
    EXPECT_EQ(message->second.hung().job_id(), "job-000001");
    EXPECT_EQ(message->second.hung().stage(), "scoring");
    EXPECT_GE(message->second.hung().seconds(), 0.3);
    EXPECT_EQ(message->second.hung().stack(), "");
  }
  EXPECT_TRUE(told);
  release.Notify();
}

}  // namespace
}  // namespace imageddpo

#include "common/worker/worker.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <thread>

#include "common/base/logging.h"
#include "common/base/status.h"
#include "common/comm/local_control_channel.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/comm/meeting.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{20};

/// A worker of world rank 1 on a thread, and the controller's end of its channel.
class WorkerTest : public testing::Test {
 protected:
  WorkerTest() {
    options_.heartbeat_interval = milliseconds(100);
    options_.lease_timeout = seconds(30);
    options_.gang_timeout = seconds(5);
  }
  ~WorkerTest() override {
    if (thread_.joinable()) {
      Tell([](auto& message) { message.mutable_shutdown(); });
      thread_.join();
    }
  }

  void Begin(JobFunction job) {
    if (logger_ == nullptr) logger_ = *MakeLogger({.level = "off"});
    worker_ = std::make_unique<Worker>(
        Worker::Parts{
            .channel = plane_.worker(1),
            .open_gang = [this](const v1::GangLayout& layout) { return open_gang_(layout); },
            .run_job = std::move(job),
            .device = at::kCPU,
            .clock = clock_,
            .logger = logger_},
        options_);
    thread_ = std::thread([this] { exit_code_ = worker_->Run(); });
  }

  template <typename Fill>
  void Tell(Fill fill) {
    v1::ControllerMessage message;
    fill(message);
    plane_.controller().Send(1, std::move(message));
  }
  void Start(const std::string& job_id, std::vector<int> ranks = {1}) {
    Tell([&](auto& message) {
      message.mutable_start_job()->set_job_id(job_id);
      message.mutable_start_job()->mutable_gang()->set_tag(job_id + "/1");
      for (const int rank : ranks) {
        message.mutable_start_job()->mutable_gang()->add_world_ranks(rank);
      }
    });
  }
  void Stop(const std::string& job_id) {
    Tell([&](auto& message) { message.mutable_stop_job()->set_job_id(job_id); });
  }

  /// The next message that is no heartbeat and no log line.
  v1::WorkerMessage Hear() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      auto message = plane_.controller().Receive(milliseconds(50));
      if (message.has_value() && message->second.has_log()) {
        logged_.push_back(message->second.log());
      } else if (message.has_value() && !message->second.has_heartbeat()) {
        return message->second;
      }
    }
    ADD_FAILURE() << "nothing heard";
    return {};
  }
  v1::JobEnded HearEnd() {
    v1::WorkerMessage message = Hear();
    while (message.has_hello()) {
      message = Hear();
    }
    EXPECT_TRUE(message.has_ended()) << message.ShortDebugString();
    return message.ended();
  }
  absl::StatusCode CodeOf(JobFunction job) {
    Begin(std::move(job));
    Start("job");
    return static_cast<absl::StatusCode>(HearEnd().code());
  }
  int ExitCode() {
    thread_.join();
    return exit_code_;
  }

  SystemClock clock_;
  LocalControlPlane plane_{{1, 2}};
  Worker::Options options_;
  Worker::GangFactory open_gang_ = [](const v1::GangLayout& /*layout*/) {
    return MakeSoloCommunicator();
  };
  std::shared_ptr<spdlog::logger> logger_;
  std::unique_ptr<Worker> worker_;
  std::vector<v1::LogReport> logged_;
  std::thread thread_;
  int exit_code_ = -1;
};

absl::Status WaitForStop(JobContext& context) {
  while (!context.stop.requested()) std::this_thread::sleep_for(milliseconds(5));
  return absl::CancelledError("stopped");
}

TEST_F(WorkerTest, SendsWhatItsJobLogs) {
  logger_ = *MakeLogger({.level = "info"});
  EXPECT_EQ(CodeOf([](JobContext& context) {
              context.logger->info("loaded {} modules", 7);
              return absl::OkStatus();
            }),
            absl::StatusCode::kOk);
  ASSERT_EQ(logged_.size(), 2U);  // That and its end, before the controller hears of the end.
  EXPECT_EQ(logged_[0].job_id(), "job");
  EXPECT_EQ(logged_[0].level(), "info");
  EXPECT_EQ(logged_[0].message(), "loaded 7 modules");
  EXPECT_GT(logged_[0].unix_ms(), 1'600'000'000'000);
  EXPECT_EQ(logged_[1].message(), "the job has ended on this rank");
}

TEST_F(WorkerTest, KillsAStoppedProcessOfItsHost) {
  const pid_t child = fork();
  while (child == 0) pause();
  ASSERT_EQ(kill(child, SIGSTOP), 0);
  std::ifstream file("/proc/" + std::to_string(child) + "/stat");
  std::vector<std::string> fields;
  for (std::string field; file >> field;) fields.push_back(field);
  ASSERT_GE(fields.size(), 22U);
  Begin(WaitForStop);
  const v1::WorkerMessage hello = Hear();
  EXPECT_EQ(hello.hello().process().pid(), getpid());
  Tell([&](auto& message) {
    v1::ProcessRef& process = *message.mutable_kill_process()->mutable_process();
    process = hello.hello().process();
    process.set_pid(child);
    process.set_start_ticks(std::stoull(fields[21]));  // The test's name has no spaces.
  });
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST_F(WorkerTest, SaysHelloAndSendsHeartbeatsWithItsNewestLease) {
  Begin(WaitForStop);
  const v1::WorkerMessage hello = Hear();
  ASSERT_TRUE(hello.has_hello());
  EXPECT_EQ(hello.hello().pid(), getpid());
  EXPECT_EQ(hello.hello().device(), "cpu");
  EXPECT_GT(hello.hello().cores(), 0);
  EXPECT_NE(hello.hello().hostname(), "");
  Tell([](auto& message) { message.mutable_lease()->set_number(42); });
  bool heard = false;
  for (int i = 0; i < 100 && !heard; ++i) {
    const auto message = plane_.controller().Receive(milliseconds(200));
    heard = message.has_value() && message->second.heartbeat().lease_number() == 42;
    if (!heard) continue;
    const v1::RankStats& stats = message->second.heartbeat().stats();
    EXPECT_GT(stats.resident_bytes(), 1 << 20);
    EXPECT_EQ(stats.sent_message_bytes(), 0);
    EXPECT_FALSE(stats.has_device_allocated_bytes()) << "it has no GPU";
  }
  EXPECT_TRUE(heard);
}

TEST_F(WorkerTest, TracesAJobThatRuns) {
  Begin([](JobContext& context) {
    std::optional<SpanLog::Trace> trace;
    while (!trace && !context.stop.requested()) {
      trace = context.spans->NextEpoch();
      const SpanLog::Span span(context.spans, "work");
      std::this_thread::sleep_for(milliseconds(2));
    }
    if (!trace) return absl::CancelledError("stopped");
    v1::WorkerMessage message;
    message.mutable_trace()->set_folder(trace->folder);
    message.mutable_trace()->set_json(trace->json);
    context.report(message);
    return absl::OkStatus();
  });
  Start("first");
  Tell([](auto& message) {
    message.mutable_profile()->set_job_id("another");
    message.mutable_profile()->set_folder("of another");
    message.mutable_profile()->set_num_epochs(1);
  });
  Tell([](auto& message) {
    message.mutable_profile()->set_job_id("first");
    message.mutable_profile()->set_folder("epoch-000003");
    message.mutable_profile()->set_num_epochs(2);
  });
  v1::WorkerMessage message = Hear();
  while (message.has_hello()) message = Hear();
  ASSERT_TRUE(message.has_trace()) << message.ShortDebugString();
  EXPECT_EQ(message.trace().folder(), "epoch-000003");
  const auto trace = nlohmann::json::parse(message.trace().json());
  ASSERT_EQ(trace["traceEvents"].size(), 3U) << "a name, and the spans of two epochs";
  EXPECT_EQ(trace["traceEvents"][0]["args"]["name"], "rank 1");
  for (const size_t span : {1, 2}) {
    const auto& event = trace["traceEvents"][span];
    EXPECT_EQ(event["name"], "work");
    EXPECT_EQ(event["ph"], "X");
    EXPECT_GE(event["dur"].get<int64_t>(), 2000);
    EXPECT_NEAR(event["ts"].get<double>() / 1e6, clock_.UnixSeconds(), 60);
  }
}

TEST_F(WorkerTest, RunsAJobAndReportsItsEnd) {
  Begin([](JobContext& context) {
    EXPECT_EQ(context.start.job_id(), "first");
    EXPECT_EQ(context.gang_rank, 0);
    EXPECT_EQ(context.gang.world_size(), 1);
    v1::WorkerMessage message;
    message.mutable_progress()->set_epoch(3);
    context.report(message);
    return absl::OkStatus();
  });
  EXPECT_TRUE(Hear().has_hello());
  Start("first");
  EXPECT_EQ(Hear().progress().epoch(), 3);
  const v1::JobEnded ended = Hear().ended();
  EXPECT_EQ(ended.job_id(), "first");
  EXPECT_EQ(ended.gang_tag(), "first/1");
  EXPECT_EQ(ended.code(), 0);
  Tell([](auto& message) { message.mutable_shutdown(); });
  EXPECT_EQ(ExitCode(), 0);
}

TEST_F(WorkerTest, StatusesAndExceptionsReachTheController) {
  const auto code_of_throw = [this](auto exception) {
    const auto code = CodeOf([exception](JobContext&) -> absl::Status { throw exception; });
    Tell([](auto& message) { message.mutable_shutdown(); });
    EXPECT_EQ(ExitCode(), 0);
    while (plane_.controller().Receive(milliseconds(0)).has_value()) {
    }
    return code;
  };
  EXPECT_EQ(code_of_throw(std::bad_alloc()), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code_of_throw(std::invalid_argument("x")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code_of_throw(std::runtime_error("x")), absl::StatusCode::kInternal);
  EXPECT_EQ(code_of_throw(7), absl::StatusCode::kInternal);
  EXPECT_EQ(code_of_throw(CommError(CommError::Kind::kPeerFailed, "x")),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(code_of_throw(CommError(CommError::Kind::kTimeout, "x")),
            absl::StatusCode::kDeadlineExceeded);
  Begin([](JobContext&) { return absl::NotFoundError("unet/config.json"); });
  Start("job");
  const v1::JobEnded ended = HearEnd();
  EXPECT_EQ(ended.code(), static_cast<int>(absl::StatusCode::kNotFound));
  EXPECT_EQ(ended.message(), "unet/config.json");
  EXPECT_FALSE(ended.pauses_job());
}

TEST_F(WorkerTest, AnErrorThatPausesTheJobIsMarked) {
  Begin([](JobContext&) {
    return PausesJob(absl::FailedPreconditionError("it is away"), "reward service 'taste'");
  });
  Start("job");
  const v1::JobEnded ended = HearEnd();
  EXPECT_EQ(ended.message(), "it is away");
  EXPECT_TRUE(ended.pauses_job());
  EXPECT_EQ(ended.waiting_for(), "reward service 'taste'");
}

TEST_F(WorkerTest, StopEndsAJobThatWaitsForItsGang) {
  Begin([](JobContext& context) -> absl::Status {
    context.gang.RecvBytes(0, 9, std::chrono::minutes(10));  // Nobody sends that.
    return absl::OkStatus();
  });
  Start("job");
  std::this_thread::sleep_for(milliseconds(200));
  Stop("another");
  std::this_thread::sleep_for(milliseconds(200));
  Stop("job");
  EXPECT_EQ(HearEnd().code(), static_cast<int>(absl::StatusCode::kCancelled));
}

TEST_F(WorkerTest, StopEndsAJobWhoseGangIsNotComplete) {
  auto group = MakeThreadCommunicators(2);  // The other member never comes.
  options_.gang_timeout = std::chrono::minutes(10);
  open_gang_ = [&group](const v1::GangLayout& /*layout*/) { return std::move(group[0]); };
  Begin(WaitForStop);
  Start("job", {1, 2});
  std::this_thread::sleep_for(milliseconds(200));
  Stop("job");
  EXPECT_EQ(HearEnd().code(), static_cast<int>(absl::StatusCode::kCancelled));
}

TEST_F(WorkerTest, AGangThatIsNotFormedInTimeEndsTheJob) {
  auto group = MakeThreadCommunicators(2);
  options_.gang_timeout = milliseconds(200);
  open_gang_ = [&group](const v1::GangLayout& /*layout*/) { return std::move(group[0]); };
  Begin(WaitForStop);
  Start("job", {1, 2});
  EXPECT_EQ(HearEnd().code(), static_cast<int>(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(WorkerTest, AFailedJobDoesNotLeaveItsGangWaiting) {
  auto group = MakeThreadCommunicators(2);
  open_gang_ = [&group](const v1::GangLayout& /*layout*/) { return std::move(group[0]); };
  auto other = std::async(std::launch::async, [&group] {
    EXPECT_TRUE(MeetGang(*group[1], "1,2", kPatience).ok());
    try {
      group[1]->RecvBytes(0, 1, kPatience);
    } catch (const CommError& error) {
      return error.kind();
    }
    return CommError::Kind::kTransport;
  });
  Begin([](JobContext&) { return absl::InternalError("out of luck"); });
  Start("job", {1, 2});
  EXPECT_EQ(HearEnd().code(), static_cast<int>(absl::StatusCode::kInternal));
  EXPECT_EQ(other.get(), CommError::Kind::kAborted);
}

TEST_F(WorkerTest, OneJobAtATime) {
  Begin(WaitForStop);
  Start("first");
  Start("second");
  const v1::JobEnded refused = HearEnd();
  EXPECT_EQ(refused.job_id(), "second");
  EXPECT_EQ(refused.code(), static_cast<int>(absl::StatusCode::kFailedPrecondition));
  Stop("first");
  EXPECT_EQ(HearEnd().job_id(), "first");
  Start("third");  // Free again.
  Stop("third");
  EXPECT_EQ(HearEnd().job_id(), "third");
}

TEST_F(WorkerTest, AJobThatGoesToTheWrongRankIsRefused) {
  Begin(WaitForStop);
  Start("job", {2});
  EXPECT_EQ(HearEnd().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
}

TEST_F(WorkerTest, ALostLeaseEndsTheRankAndItsJob) {
  options_.lease_timeout = milliseconds(500);
  std::atomic<bool> stopped = false;
  Begin([&stopped](JobContext& context) {
    const absl::Status status = WaitForStop(context);
    stopped = true;
    return status;
  });
  Start("job");
  for (int i = 0; i < 10; ++i) {  // Longer than the lease, but renewed.
    Tell([](auto& message) { message.mutable_lease(); });
    std::this_thread::sleep_for(milliseconds(100));
  }
  EXPECT_EQ(exit_code_, -1);
  EXPECT_EQ(ExitCode(), kExitRestart);
  EXPECT_TRUE(stopped);
  EXPECT_FALSE(worker_->job_abandoned());
}

TEST_F(WorkerTest, ADeadControllerEndsTheRankAtOnce) {
  Begin(WaitForStop);
  Start("job");
  plane_.FailController();
  EXPECT_EQ(ExitCode(), kExitRestart);
}

TEST_F(WorkerTest, AJobThatDoesNotStopIsAbandoned) {
  options_.stop_timeout = milliseconds(300);
  std::promise<void> running, release;
  Begin([&](JobContext&) {
    running.set_value();
    release.get_future().wait();
    return absl::OkStatus();
  });
  Start("job");
  running.get_future().wait();  // If it were asked to end before, it would not start.
  Tell([](auto& message) { message.mutable_shutdown(); });
  EXPECT_EQ(ExitCode(), 0);
  EXPECT_TRUE(worker_->job_abandoned());
  release.set_value();  // So that the test can end; imageddpod ends the process.
}

}  // namespace
}  // namespace imageddpo

// One rank of the fault tests: fault_ranks SCENARIO FOLDER. Writes what it saw, one "key value" per
// line, to FOLDER/rank-<n>; mpi_faults_test.cc starts the ranks and reads the files.

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iomanip>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/clock.h"
#include "common/base/logging.h"
#include "common/comm/meeting.h"
#include "common/comm/mpi/gang.h"
#include "common/comm/mpi/mpi_control_channel.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/mpi/mpi_runtime.h"
#include "common/worker/worker.h"
#include "tests/testing/all_ranks.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kSilence{3};           // Heartbeat timeout and lease.
constexpr milliseconds kDeadline{1500};  // Of a wait for other ranks.

class Rank {
 public:
  Rank(MpiRuntime& runtime, const std::string& folder)
      : runtime_(runtime),
        report_(absl::StrCat(folder, "/rank-", runtime.world_rank())),
        logger_(*MakeLogger({.rank = runtime.world_rank()})) {
    Report("pid", getpid());
  }

  int self() const { return runtime_.world_rank(); }

  template <typename Value>
  void Report(const std::string& key, const Value& value) {
    report_ << std::setprecision(15) << key << ' ' << value << std::endl;
  }

  /// A gang whose first member is `members[0]`; ends the process's test when it cannot be formed.
  std::unique_ptr<Communicator> Gang(const std::vector<int>& members, const std::string& tag) {
    auto gang = OpenGang(messenger_, members, tag, at::kCPU);
    if (gang.ok()) {
      if (const auto met = MeetGang(**gang, absl::StrJoin(members, ","), seconds(20)); !met.ok()) {
        gang = met;
      }
    }
    if (!gang.ok()) {
      Report(absl::StrCat("gang_error ", tag), gang.status().ToString());
      return nullptr;
    }
    return *std::move(gang);
  }

  /// Adds until it fails or `rounds` are over; reports how it failed and how long that took.
  void AddUntilItFails(const std::string& name, Communicator& gang, int rounds,
                       const std::function<void(int)>& before) {
    for (int round = 0; round < rounds; ++round) {
      before(round);
      const double start_s = clock_.NowSeconds();
      try {
        const at::Tensor tensor =
            at::full({300'000}, 1.0, at::kFloat);  // Too large for one message.
        gang.AllReduceSum(tensor, AllRanks(gang))->Wait(kDeadline);
      } catch (const CommError& error) {
        const char* kinds[] = {"peer_failed", "timeout", "aborted", "transport"};
        Report(name + "_failed", kinds[static_cast<int>(error.kind())]);
        Report(name + "_failed_after_s", clock_.NowSeconds() - start_s);
        gang.Abort("a rank is missing");
        return;
      }
    }
    Report(name + "_failed", "no");
  }

  /// Ranks 1 to 3 work; 3 dies or stops in the middle; 1 and 2 go on in a gang of their own.
  void LoseAWorker(int signal_number) {
    if (self() == 0) {
      const auto channel = MakeMpiControllerChannel(
          messenger_, {.heartbeat_timeout = kSilence, .first_message_timeout = seconds(20)});
      Watch(*channel);
      return;
    }
    const auto channel = MakeMpiWorkerChannel(messenger_);
    v1::WorkerMessage hello;
    hello.mutable_hello()->set_pid(getpid());
    channel->Send(hello);
    std::thread heartbeats([&] {
      for (bool told_to_end = false; !told_to_end && !channel->ControllerFailed();) {
        v1::WorkerMessage message;
        message.mutable_heartbeat();
        channel->Send(message);
        const auto answer = channel->Receive(milliseconds(100));
        told_to_end = answer.has_value() && answer->has_shutdown();
      }
    });
    if (const auto gang = Gang({1, 2, 3}, "first")) {
      AddUntilItFails("first", *gang, 1'000'000, [&](int round) {
        if (self() == 3 && round == 50) {
          Report("signal_at_s", clock_.UnixSeconds());
          kill(getpid(), signal_number);
        }
      });
    }
    if (const auto gang = Gang({1, 2}, "second")) {
      AddUntilItFails("second", *gang, 50, [](int) {});
    }
    heartbeats.join();
  }

  void Watch(ControllerChannel& channel) {
    std::map<int, int> pids;
    double end_s = clock_.NowSeconds() + 15;
    while (clock_.NowSeconds() < end_s) {
      if (const auto message = channel.Receive(milliseconds(20)); message.has_value()) {
        if (message->second.has_hello()) {
          pids[message->first] = message->second.hello().pid();
        }
      }
      for (const auto& failure : channel.TakeFailures()) {
        Report(absl::StrCat("lost_", failure.world_rank), failure.reason);
        Report("lost_at_s", clock_.UnixSeconds());
        kill(pids.at(failure.world_rank), SIGKILL);        // As the launcher does in the end.
        end_s = std::min(end_s, clock_.NowSeconds() + 4);  // Its death might cause others.
      }
    }
    for (const int rank : channel.worker_ranks()) {
      v1::ControllerMessage message;
      message.mutable_shutdown();
      channel.Send(rank, message);
    }
  }

  /// Workers in the middle of a job; rank 0 sends leases, then dies or stops.
  void LoseTheController(int signal_number) {
    if (self() != 0) {
      const auto channel = MakeMpiWorkerChannel(messenger_);
      Worker worker({.channel = *channel,
                     .open_gang =
                         [this](const v1::GangLayout& layout) {
                           return OpenGang(
                               messenger_,
                               {layout.world_ranks().begin(), layout.world_ranks().end()},
                               layout.tag(), at::kCPU);
                         },
                     .run_job = [this](JobContext& context) -> absl::Status {
                       AddUntilItFails("job", context.gang, 1'000'000,
                                       [](int) { std::this_thread::sleep_for(milliseconds(10)); });
                       return absl::AbortedError("failed");
                     },
                     .device = at::kCPU,
                     .clock = clock_,
                     .logger = logger_},
                    {.lease_timeout = kSilence});
      const int code = worker.Run();
      Report("exit_code", code);
      Report("exit_at_s", clock_.UnixSeconds());
      // Until the other has reported, too: mpirun ends all ranks once two have ended with such a
      // code.
      std::this_thread::sleep_for(milliseconds(2000));
      exit_code_ = code;
      return;
    }
    const auto channel = MakeMpiControllerChannel(messenger_, {});
    for (int tick = 0; tick < 15; ++tick) {
      for (const int rank : channel->worker_ranks()) {
        v1::ControllerMessage message;
        if (tick == 5) {
          auto& start = *message.mutable_start_job();
          start.set_job_id("a-job");
          start.mutable_gang()->set_tag("a-job/1");
          for (const int member : channel->worker_ranks()) {
            start.mutable_gang()->add_world_ranks(member);
          }
        } else {
          message.mutable_lease()->set_number(static_cast<std::uint64_t>(tick));
        }
        channel->Send(rank, message);
      }
      channel->Receive(milliseconds(100));
    }
    Report("signal_at_s", clock_.UnixSeconds());
    kill(getpid(), signal_number);
  }

  /// Measures the processor time of idle ranks, which only send heartbeats and leases.
  void Idle() {
    std::unique_ptr<ControllerChannel> controller;
    std::unique_ptr<WorkerChannel> worker;
    if (self() == 0) {
      controller = MakeMpiControllerChannel(messenger_, {});
    } else {
      worker = MakeMpiWorkerChannel(messenger_);
    }
    std::this_thread::sleep_for(seconds(1));
    const auto cpu_s = [] {
      rusage usage{};
      getrusage(RUSAGE_SELF, &usage);
      return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
             1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    };
    const double start_s = clock_.NowSeconds();
    const double start_cpu_s = cpu_s();
    while (clock_.NowSeconds() < start_s + 6) {
      if (controller != nullptr) {
        for (const int rank : controller->worker_ranks()) {
          v1::ControllerMessage message;
          message.mutable_lease();
          controller->Send(rank, message);
        }
        const double until_s = clock_.NowSeconds() + 1;
        while (clock_.NowSeconds() < until_s) {
          controller->Receive(milliseconds(200));
        }
        controller->TakeFailures();
      } else {
        v1::WorkerMessage message;
        message.mutable_heartbeat();
        worker->Send(message);
        std::this_thread::sleep_for(seconds(1));
      }
    }
    Report("cpu_percent", 100 * (cpu_s() - start_cpu_s) / (clock_.NowSeconds() - start_s));
  }

  /// A checkpoint of 30 MB to the controller and back, with small messages around it.
  void BigMessage() {
    std::string lora;
    lora.resize(30'000'000, 'x');
    if (self() == 0) {
      const auto channel = MakeMpiControllerChannel(messenger_, {});
      std::map<int, std::string> order;  // By rank.
      for (int received = 0; received < 6;) {
        const auto message = channel->Receive(seconds(20));
        if (!message.has_value()) {
          break;
        }
        ++received;
        const auto& [rank, content] = *message;
        order[rank] += content.has_checkpoint() ? (content.checkpoint().lora() == lora ? "C" : "?")
                                                : (content.has_progress() ? "P" : "E");
        if (content.has_checkpoint()) {
          v1::ControllerMessage answer;
          answer.mutable_start_job()->mutable_resume_from()->set_lora(content.checkpoint().lora());
          channel->Send(rank, answer);
        }
      }
      Report("order_1", order[1]);
      Report("order_2", order[2]);
      std::this_thread::sleep_for(seconds(1));
      return;
    }
    const auto channel = MakeMpiWorkerChannel(messenger_);
    v1::WorkerMessage message;
    message.mutable_progress();
    channel->Send(message);
    message.mutable_checkpoint()->set_lora(lora);
    const double start_s = clock_.NowSeconds();
    channel->Send(message);
    message.mutable_ended();
    channel->Send(message);
    const auto answer = channel->Receive(seconds(20));
    Report("same", answer.has_value() && answer->start_job().resume_from().lora() == lora);
    Report("round_trip_s", clock_.NowSeconds() - start_s);
  }

  int Run(const std::string& scenario) {
    if (scenario == "worker_killed") {
      LoseAWorker(SIGKILL);
    } else if (scenario == "worker_stopped") {
      LoseAWorker(SIGSTOP);
    } else if (scenario == "controller_killed") {
      LoseTheController(SIGKILL);
    } else if (scenario == "controller_stopped") {
      LoseTheController(SIGSTOP);
    } else if (scenario == "idle") {
      Idle();
    } else if (scenario == "big_message") {
      BigMessage();
    } else {
      return 2;
    }
    messenger_.Leave("the test is over", seconds(2));
    Report("end", "reached");
    return exit_code_;
  }

 private:
  MpiRuntime& runtime_;
  std::ofstream report_;
  SystemClock clock_;
  std::shared_ptr<spdlog::logger> logger_;
  MpiMessenger messenger_{runtime_, {}};
  int exit_code_ = 0;
};

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // A stopped rank must not outlive its mpirun.
  auto runtime = imageddpo::MpiRuntime::Start(&argc, &argv);
  if (!runtime.ok() || argc != 3) {
    return 2;
  }
  int code = 0;
  {
    imageddpo::Rank rank(**runtime, argv[2]);
    code = rank.Run(argv[1]);
  }
  (*runtime)->Finish(code);
  return code;
}

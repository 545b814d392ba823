// imageddpod: every rank of the service. Rank 0 is the controller, the others are workers; a single
// process is both.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <exception>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/crash_watch.h"
#include "common/base/logging.h"
#include "common/base/memory.h"
#include "common/base/stop_flag.h"
#include "common/base/text.h"
#include "common/comm/local_control_channel.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "common/comm/mpi/gang.h"
#include "common/comm/mpi/mpi_control_channel.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/mpi/mpi_runtime.h"
#include "common/comm/nccl/device_communicator.h"
#include "common/device/identity.h"
#include "common/device/numerics.h"
#include "common/io/file.h"
#include "common/metrics/gpu_sensors.h"
#include "common/worker/exit_codes.h"
#include "common/worker/run_catching.h"
#include "common/worker/worker.h"
#include "deploy/imageddpod/controller_rank.h"
#include "deploy/imageddpod/device.h"
#include "deploy/imageddpod/job_files.h"
#include "deploy/imageddpod/job_function.h"
#include "deploy/imageddpod/options.h"

namespace imageddpo {
namespace {

using Logger = std::shared_ptr<spdlog::logger>;

void Complain(absl::string_view message) {
  std::cerr << "imageddpod: " << Printable(std::string(message), /*keep_newlines=*/true)
            << std::endl;
}

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
}

Worker::Options WorkerOptions(const ClusterConfig& cluster) {
  Worker::Options options;
  options.lease_timeout = Milliseconds(cluster.pool.lease_seconds);
  options.heartbeat_interval =
      Milliseconds(std::min(1.0, cluster.pool.heartbeat_timeout_seconds / 5));
  return options;
}

/// Ends this process at once, with threads that cannot be ended.
using EndProcess = void (*)(int exit_code);

/// The only process.
void EndAlone(int exit_code) { _exit(exit_code); }

/// One rank of many. MPI tells the others at once of a process that a signal has ended. Of an exit
/// code other than 0 it does not, and Open MPI 5.0.11 ends all processes with the second of them.
void EndOneOfMany(int /*exit_code*/) { ::kill(::getpid(), SIGKILL); }

/// After some errors of a kernel every later call for its GPU fails, in any job, until the process
/// ends. Then the process does so at once and says nothing of the job's end: for the controller
/// this rank is lost, and the job goes on without it as after any other loss.
void EndIfDeviceIsLost(const JobContext& context, const absl::Status& status, EndProcess end) {
  if (DeviceWorks(context.device)) return;
  context.logger->critical(
      "{} can do nothing more in this process after: {}; the process ends, so that the job goes on "
      "elsewhere",
      context.device.str(), status.ToString());
  context.logger->flush();
  end(kExitRestart);
}

RankOutcome RunWorkerRank(const ClusterConfig& cluster, WorkerChannel& channel,
                          Worker::GangFactory open_gang, at::Device device, const Logger& logger,
                          EndProcess end) {
  KeepFreeMemory();
  const SystemClock clock;
  const CrashWatch crashes;
  const DeviceIdentity identity = IdentityOf(device);
  const auto sensors = GpuSensors::Load(identity.pci_bus_id);
  Worker worker({.channel = channel,
                 .open_gang = std::move(open_gang),
                 .run_job =
                     [&cluster, end](JobContext& context) {
                       const absl::Status status = RunCatching([&] {
                         const absl::Status files = CheckJobFiles(cluster, context.start.spec());
                         return files.ok() ? RunJob(context) : files;
                       });
                       if (absl::IsInternal(status) || absl::IsInvalidArgument(status)) {
                         EndIfDeviceIsLost(context, status, end);
                       }
                       ReturnDeviceMemory(context.device);
                       ReturnFreeMemory();
                       return status;
                     },
                 .device = device,
                 .clock = clock,
                 .logger = logger,
                 .device_memory_bytes = DeviceMemoryBytes(device),
                 .identity = identity,
                 .crashes = &crashes,
                 .sensors = sensors.get()},
                WorkerOptions(cluster));
  const int exit_code = worker.Run();
  if (!worker.job_abandoned()) return {.exit_code = exit_code};
  logger->warn("a job did not stop in time; the process ends without it");
  logger->flush();
  end(exit_code);
  return {.exit_code = exit_code};  // Not reached.
}

/// Tells the launcher the exit code, with "worked" if this restart shall not count as a failure.
void WriteExitStatus(const DaemonOptions& options, const RankOutcome& outcome) {
  if (options.exit_status_file.empty()) return;
  const auto status =
      WriteFileAtomically(options.exit_status_file,
                          absl::StrCat(outcome.exit_code, outcome.worked ? " worked" : "", "\n"));
  if (!status.ok()) Complain(status.message());
}

/// Rank 0. The launcher is told of a restart before the servers are closed.
RankOutcome Serve(const DaemonOptions& options, ControllerChannel& channel, const Logger& logger,
                  const StopFlag& stop) {
  return RunControllerRank(
      options.cluster, channel, DeviceKind(), logger, [&stop] { return stop.Requested(); },
      [&options](const RankOutcome& outcome) { WriteExitStatus(options, outcome); });
}

/// One process: rank 0 is also the one worker, on a thread of its own.
RankOutcome RunAlone(const DaemonOptions& options, const Logger& logger, const StopFlag& stop) {
  LocalControlPlane plane({0});
  const at::Device device = ChooseDevice(0);
  std::thread worker([&] {
    const auto solo = [&](const v1::GangLayout&) {
      return MakeDeviceCommunicator(MakeThreadMailboxes(1).front(), device, GpuTransport::kNccl);
    };
    RunWorkerRank(options.cluster, plane.worker(0), solo, device, logger, &EndAlone);
  });
  const RankOutcome outcome = Serve(options, plane.controller(), logger, stop);
  plane.FailController();
  worker.join();
  return outcome;
}

RankOutcome RunAmongMany(const DaemonOptions& options, MpiRuntime& runtime, const Logger& logger,
                         const StopFlag& stop) {
  MpiMessenger messenger(runtime, {});
  RankOutcome outcome;
  if (runtime.world_rank() == 0) {
    const double silence_s = options.cluster.pool.heartbeat_timeout_seconds;
    const auto channel =
        MakeMpiControllerChannel(messenger, {.heartbeat_timeout = Milliseconds(silence_s)});
    outcome = Serve(options, *channel, logger, stop);
  } else {
    const auto channel = MakeMpiWorkerChannel(messenger);
    const at::Device device = ChooseDevice(LocalWorkerIndex());
    const auto open_gang = [&](const v1::GangLayout& gang) {
      const GpuTransport transport =
          gang.shares_devices() ? GpuTransport::kHostMemory : GpuTransport::kNccl;
      return OpenGang(messenger, {gang.world_ranks().begin(), gang.world_ranks().end()}, gang.tag(),
                      device, transport);
    };
    outcome = RunWorkerRank(options.cluster, *channel, open_gang, device, logger, &EndOneOfMany);
  }
  messenger.Leave("the end of the rank", std::chrono::seconds(2));
  return outcome;
}

/// A rank other than 0 that cannot start tells rank 0, which ends the service with this reason: it
/// would otherwise wait for this rank.
void Refuse(MpiRuntime& runtime, const std::string& reason) {
  constexpr std::chrono::milliseconds kFarewell{1'000};  // In which the message leaves.
  MpiMessenger messenger(runtime, {});
  const auto channel = MakeMpiWorkerChannel(messenger);
  v1::WorkerMessage message;
  message.mutable_refused()->set_host(HostName());
  message.mutable_refused()->set_reason(reason);
  channel->Send(std::move(message));
  std::this_thread::sleep_for(kFarewell);
  messenger.Leave("the end of the rank", std::chrono::seconds(2));
}

/// The options; a file that cannot be read, as on a network file system that is away for a moment,
/// is tried again for half a minute.
absl::Status ParseOptions(int argc, char** argv, DaemonOptions* options) {
  constexpr std::chrono::seconds kPatience{30};
  constexpr std::chrono::milliseconds kPause{1'000};
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    *options = {};
    const absl::Status parsed = ParseDaemonOptions(argc, argv, options);
    const bool cannot_be_read = absl::IsNotFound(parsed) && !options->check;
    if (!cannot_be_read || std::chrono::steady_clock::now() >= deadline) return parsed;
    Complain(absl::StrCat(parsed.message(), "; trying again"));
    std::this_thread::sleep_for(kPause);
  }
}

/// Runs this process's rank.
RankOutcome RunRank(DaemonOptions options, MpiRuntime& runtime, const StopFlag& stop) {
  const auto& log = options.cluster.log;
  const auto logger = MakeLogger({.rank = runtime.world_rank(),
                                  .level = options.cluster.log_level,
                                  .json = log.format == "json",
                                  .file = log.file,
                                  .max_file_bytes = log.max_bytes,
                                  .max_files = log.max_files});
  if (!logger.ok()) {
    Complain(logger.status().message());
    return {.exit_code = kExitRefused};
  }
  if (options.ranks != 0 && options.ranks != runtime.world_size()) {
    (*logger)->error(
        "{} ranks were started but MPI sees {}: mpirun and the MPI that imageddpod was "
        "built with are not the same",
        options.ranks, runtime.world_size());
    return {.exit_code = kExitRefused};
  }
  if (runtime.world_rank() == 0) {
    (*logger)->info("{}", runtime.Describe());
    if (!options.pid_file.empty()) {
      const auto status = WriteFileAtomically(options.pid_file, std::to_string(getpid()) + "\n");
      if (!status.ok()) (*logger)->warn("{}", status.ToString());
    }
  }
  // Without fault tolerance no rank can be spared: when one is silent, the service ends in order.
  // A SIGTERM may then come from mpirun, which kills all ranks soon after: nothing is waited for.
  if (!runtime.fault_tolerant()) {
    options.cluster.pool.min_ranks = 0;
    options.cluster.pool.drain_seconds = 0;
  }
  RankOutcome outcome = runtime.world_size() == 1 ? RunAlone(options, *logger, stop)
                                                  : RunAmongMany(options, runtime, *logger, stop);
  if (outcome.exit_code == 0 && stop.Signal() != 0) outcome.exit_code = stop.ExitCode();
  return outcome;
}

int Main(int argc, char** argv) {
  PrepareNumerics();
  DaemonOptions options;
  const absl::Status parsed = ParseOptions(argc, argv, &options);
  if (absl::IsCancelled(parsed)) return 0;
  if (options.check) {
    if (!parsed.ok()) Complain(parsed.message());
    return parsed.ok() ? 0 : kExitRefused;
  }
  auto runtime = MpiRuntime::Start(&argc, &argv);
  if (!runtime.ok()) {
    Complain(runtime.status().message());
    return kExitRefused;
  }
  const bool is_rank_0 = (*runtime)->world_rank() == 0;
  RankOutcome outcome = {.exit_code = kExitRefused};
  if (parsed.ok()) {
    const StopFlag stop;
    outcome = RunRank(options, **runtime, stop);
  } else if (is_rank_0) {
    Complain(parsed.message());
  } else {
    Refuse(**runtime, std::string(parsed.message()));  // Rank 0 says it.
  }
  if (is_rank_0) WriteExitStatus(options, outcome);
  (*runtime)->Finish(outcome.exit_code);
  return outcome.exit_code;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  try {
    return imageddpo::Main(argc, argv);
  } catch (const std::exception& error) {
    imageddpo::Complain(error.what());
    return 1;
  }
}

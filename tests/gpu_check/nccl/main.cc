// nccl_check: the conformance suite over NCCL on the GPUs of this machine, without MPI and gRPC.
// Prints a summary in JSON and ends with 0 (all is well), 1 (something is wrong) or 2 (nothing to
// check with).

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/comm/nccl/cuda_stream.h"
#include "common/comm/nccl/device_communicator.h"
#include "common/comm/nccl/nccl_library.h"
#include "tests/gpu_check/nccl/library_check.h"
#include "tests/gpu_check/nccl/nccl_check.h"

namespace imageddpo {
namespace {

constexpr int kOutlivePatienceSeconds = 15;

struct Options {
  int ranks = 0;
  bool processes = false;
  bool share_gpus = false;
  bool kill = false;
  int timeout_seconds = 480;
  std::string json_file;
  // How this program starts its ranks as processes.
  int rank = -1;
  std::string folder;
};

CheckedDevices FindDevices() {
  CheckedDevices devices;
  if (cudaGetDeviceCount(&devices.count) != cudaSuccess) {
    devices.count = 0;
  }
  devices.nccl_version = MakeNcclApi().version();
  int version = 0;
  const char* const allowed = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  devices.several_ranks_each = ncclGetVersion(&version) == ncclSuccess &&
                               version >= NCCL_VERSION(2, 30, 0) && allowed != nullptr &&
                               std::string(allowed) == "1";
  devices.library_calls = [](int index) -> std::vector<std::string> {
    const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
    try {
      return CheckLibraryCalls(MakeNcclApi(), *MakeCudaStream(device), device);
    } catch (const std::exception& error) {
      return {error.what()};
    }
  };
  devices.communicator = [count = devices.count](std::shared_ptr<Mailbox> mailbox, int rank) {
    const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(rank % count));
    auto communicator = MakeDeviceCommunicator(std::move(mailbox), device, GpuTransport::kNccl);
    if (!communicator.ok()) {
      throw std::runtime_error(communicator.status().ToString());
    }
    return *std::move(communicator);
  };
  return devices;
}

std::filesystem::path ResultsFile(const std::string& folder, int rank) {
  return std::filesystem::path(folder) / absl::StrCat("rank-", rank, ".json");
}

/// @param own_host  NCCL, which refuses two ranks of one host on one GPU, takes this rank for one
/// of another host, and its tensors go through sockets.
pid_t StartRank(const std::string& program, const std::string& folder, int rank, int ranks,
                bool own_host, bool kill) {
  const std::string rank_text = absl::StrCat(rank);
  const std::string ranks_text = absl::StrCat(ranks);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (own_host) setenv("NCCL_HOSTID", absl::StrCat("nccl-check-", rank).c_str(), 1);
    execl(program.c_str(), program.c_str(), "--rank", rank_text.c_str(), "--ranks",
          ranks_text.c_str(), "--folder", folder.c_str(), kill ? "--kill" : nullptr, nullptr);
    _exit(127);
  }
  return child;
}

/// Starts this program once for each rank; a rank that does not end in time is killed.
std::vector<CaseResult> CheckOnProcesses(int ranks, int timeout_seconds, bool share_gpus) {
  std::string folder = (std::filesystem::temp_directory_path() / "nccl-check.XXXXXX").string();
  std::vector<std::vector<CaseResult>> by_rank(static_cast<std::size_t>(ranks));
  if (mkdtemp(folder.data()) == nullptr) {
    return {{.name = "start", .wrong = {"cannot make a folder " + folder}}};
  }
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    children.push_back(StartRank(program, folder, rank, ranks, share_gpus, /*kill=*/false));
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds);
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = children[static_cast<std::size_t>(rank)];
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > until) {
        kill(child, SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    auto& results = by_rank[static_cast<std::size_t>(rank)];
    std::ifstream file(ResultsFile(folder, rank));
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!CaseResultsFromJson(text, &results)) {
      results = {{.name = absl::StrCat("process ", rank),
                  .wrong = {absl::StrCat("ended with status ", status, " and no results")}}};
    }
  }
  std::filesystem::remove_all(folder);
  return Merge(by_rank);
}

/// Kills one of two processes, each as if it had a host of its own, while they sum a tensor.
/// @return  what the other one saw.
std::vector<CaseResult> CheckThatARankOutlivesAnother(int timeout_seconds) {
  std::string folder = (std::filesystem::temp_directory_path() / "nccl-check.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return {{.name = "start", .wrong = {"cannot make a folder " + folder}}};
  }
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const pid_t survivor = StartRank(program, folder, 0, 2, /*own_host=*/true, /*kill=*/true);
  const pid_t victim = StartRank(program, folder, 1, 2, /*own_host=*/true, /*kill=*/true);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds);
  const auto is_late = [until] { return std::chrono::steady_clock::now() > until; };
  const auto nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  while (!std::filesystem::exists(AtWorkFile(folder, 1)) && !is_late()) nap();
  kill(victim, SIGKILL);
  waitpid(victim, nullptr, 0);
  int status = 0;
  while (waitpid(survivor, &status, WNOHANG) == 0) {
    if (is_late()) kill(survivor, SIGKILL);
    nap();
  }
  std::vector<CaseResult> results;
  std::ifstream file(ResultsFile(folder, 0));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!CaseResultsFromJson(text, &results)) {
    results = {{.name = "OutlivesAPeer",
                .wrong = {absl::StrCat("ended with status ", status, " and no results")}}};
  }
  std::filesystem::remove_all(folder);
  return results;
}

int Run(const Options& options) {
  CheckedDevices devices = FindDevices();
  devices.several_ranks_each = devices.several_ranks_each || options.share_gpus;
  if (options.rank >= 0) {
    const std::vector<CaseResult> results =
        options.kill
            ? std::vector{OutliveAPeer(devices, options.folder, options.rank,
                                       std::chrono::seconds(kOutlivePatienceSeconds))}
            : CheckAsProcess(devices, options.folder, options.rank, std::max(1, options.ranks));
    std::ofstream(ResultsFile(options.folder, options.rank)) << CaseResultsToJson(results);
    return ExitCodeOf(results);
  }
  if (options.kill && devices.count > 0) {
    const std::vector<CaseResult> results = CheckThatARankOutlivesAnother(options.timeout_seconds);
    const RankChoice choice{.ranks = 2, .note = "two processes, one of which is killed"};
    std::cout << CheckSummary(devices, choice, results, ExitCodeOf(results)) << std::endl;
    return ExitCodeOf(results);
  }
  const RankChoice choice = ChooseRanks(devices, options.ranks);
  std::vector<CaseResult> results;
  CheckExitCode exit_code = kCheckNotPossible;
  if (choice.ranks > 0) {
    results = CheckLibrary(devices);
    const auto conformance =
        options.processes
            ? CheckOnProcesses(choice.ranks, options.timeout_seconds, options.share_gpus)
            : CheckOnThreads(devices, choice.ranks);
    results.insert(results.end(), conformance.begin(), conformance.end());
    exit_code = ExitCodeOf(results);
  }
  if (!choice.note.empty()) {
    std::cerr << "nccl_check: " << choice.note << std::endl;
  }
  const std::string summary = CheckSummary(devices, choice, results, exit_code);
  if (!options.json_file.empty()) {
    std::ofstream(options.json_file) << summary << '\n';
  }
  std::cout << summary << std::endl;
  return exit_code;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  imageddpo::Options options;
  CLI::App app("The conformance suite over NCCL on the GPUs of this machine.");
  app.add_option("--ranks", options.ranks, "Ranks; default: one for each GPU")
      ->check(CLI::NonNegativeNumber);
  CLI::Option* const processes =
      app.add_flag("--processes", options.processes, "Ranks as processes; default: as threads");
  app.add_flag("--share-gpus", options.share_gpus,
               "With --processes: more ranks than GPUs; each says that it is on a host of its own")
      ->needs(processes);
  app.add_flag("--kill", options.kill,
               "Instead of all else: kill one of two processes and see what the other one does");
  app.add_option("--timeout-seconds", options.timeout_seconds, "For ranks as processes")
      ->check(CLI::PositiveNumber);
  app.add_option("--json", options.json_file, "A file for the summary, beside the output");
  app.add_option("--rank", options.rank)->group("");
  app.add_option("--folder", options.folder)->group("");
  CLI11_PARSE(app, argc, argv);
  try {
    return imageddpo::Run(options);
  } catch (const std::exception& error) {
    std::cerr << "nccl_check: " << error.what() << std::endl;
    return imageddpo::kCheckFailed;
  }
}

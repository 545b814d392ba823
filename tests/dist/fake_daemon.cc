// Stands in for imageddpod in the tests of the launcher: a small service with ranks that notice
// each other's ends, and nothing to do. Extra arguments: MODE FOLDER. In FOLDER it notes every
// start of rank 0 (a line in "starts") and each rank's pid ("rank-<n>").
//   clean    ends with 0           refuse  ends with 2 as if its settings were bad
//   restart  asks for a restart the first time, ends with 0 the second
//   always   asks for a restart every time
//   worked   asks for a restart four times, each after some work; then ends with 0
//   run      works until a signal or until a worker is lost (then asks for a restart)
//   deaf     as run, but rank 0 takes no notice of signals
//   stuck    as run, but rank 1 is stopped before its first start; then FOLDER has a "rank-1"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "common/base/stop_flag.h"
#include "common/comm/mpi/mpi_control_channel.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/mpi/mpi_runtime.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;

int CountStarts(const std::string& folder) {
  std::ofstream(folder + "/starts", std::ios::app) << "start\n";
  std::ifstream file(folder + "/starts");
  int count = 0;
  for (std::string line; std::getline(file, line);) {
    ++count;
  }
  return count;
}

int RunController(MpiMessenger& messenger, const std::string& mode, const std::string& folder) {
  const int starts = CountStarts(folder);
  if (mode == "clean" || mode == "refuse") {
    return mode == "clean" ? 0 : 2;
  }
  if (mode == "always" || (mode == "restart" && starts == 1) || (mode == "worked" && starts <= 4)) {
    return 75;
  }
  if (mode == "restart" || mode == "worked") {
    return 0;
  }
  const StopFlag stop;
  const auto channel = MakeMpiControllerChannel(messenger, {});
  while (mode == "deaf" || !stop.Requested()) {
    channel->Receive(milliseconds(20));
    if (!channel->TakeFailures().empty()) {
      return 75;
    }
  }
  return stop.ExitCode();
}

int RunWorker(MpiMessenger& messenger) {
  const auto channel = MakeMpiWorkerChannel(messenger);
  while (!channel->ControllerFailed()) {
    channel->Receive(milliseconds(20));
  }
  return 0;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (argc > 1 && std::string(argv[1]) == "--check") return 0;  // Its settings are good.
  std::map<std::string, std::string> options;
  std::vector<std::string> extra;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--", 0) == 0 && i + 1 < argc) {
      options[argument] = argv[++i];
    } else {
      extra.push_back(argument);
    }
  }
  const char* rank_of_launch = std::getenv("OMPI_COMM_WORLD_RANK");
  if (extra.size() == 2 && extra[0] == "stuck" && rank_of_launch != nullptr &&
      std::string(rank_of_launch) == "1" && !std::filesystem::exists(extra[1] + "/rank-1")) {
    std::ofstream(extra[1] + "/rank-1") << getpid() << '\n';
    raise(SIGSTOP);
  }
  auto runtime = imageddpo::MpiRuntime::Start(&argc, &argv);
  if (!runtime.ok() || extra.size() != 2 ||
      std::to_string((*runtime)->world_size()) != options["--ranks"]) {
    return 3;
  }
  const int rank = (*runtime)->world_rank();
  std::ofstream(extra[1] + "/rank-" + std::to_string(rank)) << getpid() << '\n';
  int code = 0;
  {
    imageddpo::MpiMessenger messenger(**runtime, {});
    if (rank == 0) {
      std::ofstream(options["--pid-file"]) << getpid() << '\n';
      code = imageddpo::RunController(messenger, extra[0], extra[1]);
      std::ofstream(options["--exit-status-file"])
          << code << (extra[0] == "worked" ? " worked" : "") << '\n';
    } else {
      code = imageddpo::RunWorker(messenger);
    }
    messenger.Leave("the end", std::chrono::seconds(1));
  }
  (*runtime)->Finish(0);
  return 0;
}

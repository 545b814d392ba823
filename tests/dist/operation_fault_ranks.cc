// One rank of operation_faults.sh: operation_fault_ranks SEED FOLDER. For each kind of operation
// all ranks that are left form a gang; at a moment given by the seed the last of them is killed or
// stopped in the middle of one; each survivor writes to FOLDER/rank-<n> how its operation ended:
// "ok ..." or "wrong ...".

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/comm/meeting.h"
#include "common/comm/mpi/gang.h"
#include "common/comm/mpi/mpi_messenger.h"
#include "common/comm/mpi/mpi_runtime.h"
#include "tests/testing/all_ranks.h"

namespace imageddpo {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr int kTag = 1;
constexpr std::int64_t kElements = 300'000;  // Too many for one message.
constexpr milliseconds kKilledDeadline{3000};
constexpr milliseconds kStoppedDeadline{700};
constexpr milliseconds kPatience{20'000};
constexpr milliseconds kSlack{1000};  // Two cores for all ranks.

const std::vector<std::string> kOperations = {"send",       "receive",    "bytes",
                                              "all-reduce", "all-gather", "broadcast"};

/// One operation of every rank with `last`, or of all.
void Operate(Communicator& gang, const std::string& operation, int last, milliseconds deadline) {
  const bool is_last = gang.rank() == last;
  const at::Tensor tensor = at::full({kElements}, gang.rank(), at::kFloat);
  std::vector<std::unique_ptr<Work>> works;
  if (operation == "all-reduce") {
    works.push_back(gang.AllReduceSum(tensor, AllRanks(gang)));
  } else if (operation == "all-gather") {
    works.push_back(gang.AllGather(at::empty({gang.world_size(), kElements}, at::kFloat), tensor,
                                   AllRanks(gang)));
  } else if (operation == "broadcast") {
    works.push_back(gang.Broadcast(tensor, last, AllRanks(gang)));
  } else {
    for (int peer = is_last ? 0 : last; peer < (is_last ? last : last + 1); ++peer) {
      if (operation == "bytes") {
        gang.SendBytes(std::string(100'000, 'x'), peer, kTag);
        gang.RecvBytes(peer, kTag, deadline);
      } else if (is_last == (operation == "receive")) {
        works.push_back(gang.Send(tensor, peer, kTag));
      } else {
        works.push_back(gang.Recv(at::empty({kElements}, at::kFloat), peer, kTag));
      }
    }
  }
  for (const auto& work : works) {
    work->Wait(deadline);
  }
}

const char* NameOf(CommError::Kind kind) {
  switch (kind) {
    case CommError::Kind::kPeerFailed:
      return "peer failed";
    case CommError::Kind::kTimeout:
      return "timeout";
    case CommError::Kind::kAborted:
      return "aborted";
    case CommError::Kind::kTransport:
      break;
  }
  return "transport";
}

class Rank {
 public:
  Rank(MpiRuntime& runtime, unsigned seed, const std::string& folder)
      : runtime_(runtime),
        seed_(seed),
        report_(absl::StrCat(folder, "/rank-", runtime.world_rank())) {}

  void Run() {
    int members = runtime_.world_size();
    for (std::size_t i = 0; i < kOperations.size() && runtime_.world_rank() < members;
         ++i, --members) {
      LoseTheLast(kOperations[i], members, (i + seed_) % 2 == 0);
    }
    messenger_.Leave("the test is over", milliseconds(2000));
  }

 private:
  std::unique_ptr<Communicator> Gang(const std::string& tag, int members) {
    std::vector<int> ranks(static_cast<std::size_t>(members));
    std::iota(ranks.begin(), ranks.end(), 0);
    auto gang = OpenGang(messenger_, ranks, tag, at::kCPU);
    absl::Status met = gang.status();
    if (met.ok()) {
      met = MeetGang(**gang, tag, kPatience);
    }
    if (!met.ok()) {
      report_ << "wrong " << tag << ": no gang: " << met << std::endl;
      return nullptr;
    }
    return *std::move(gang);
  }

  void LoseTheLast(const std::string& operation, int members, bool stopped) {
    const int last = members - 1;
    const std::string what = absl::StrCat(operation, stopped ? " stopped" : " killed");
    const auto gang = Gang(what, members);
    if (gang == nullptr) {
      return;
    }
    const milliseconds deadline = stopped ? kStoppedDeadline : kKilledDeadline;
    if (gang->rank() == last) {
      Die(*gang, operation, stopped ? SIGSTOP : SIGKILL);
      return;
    }
    pid_t last_pid = 0;
    if (gang->rank() == 0) {
      last_pid = std::atoi(gang->RecvBytes(last, kTag + 1, kPatience).c_str());
    }
    gang->SendBytes("met", last, kTag + 1);
    auto start = Clock::now();
    try {
      for (;;) {
        start = Clock::now();
        Operate(*gang, operation, last, deadline);
      }
    } catch (const CommError& error) {
      const auto waited = std::chrono::duration_cast<milliseconds>(Clock::now() - start);
      // The second survivor may learn of it from the first one, which gives up earlier.
      const bool fits =
          error.kind() == CommError::Kind::kAborted ||
          error.kind() == (stopped ? CommError::Kind::kTimeout : CommError::Kind::kPeerFailed);
      report_ << (fits && waited < deadline + kSlack ? "ok " : "wrong ") << what << ": "
              << NameOf(error.kind()) << " after " << waited.count() << " ms: " << error.what()
              << std::endl;
      gang->Abort("a rank is missing");
    } catch (const std::exception& error) {
      report_ << "wrong " << what << ": no CommError: " << error.what() << std::endl;
    }
    if (last_pid > 0) {
      kill(last_pid, SIGKILL);  // As the launcher does in the end.
    }
  }

  /// Works with the others until a moment within the first operations, then dies or stops.
  void Die(Communicator& gang, const std::string& operation, int signal_number) {
    gang.SendBytes(absl::StrCat(getpid()), 0, kTag + 1);
    for (int peer = 0; peer < gang.rank(); ++peer) {  // It must not die before all have met.
      gang.RecvBytes(peer, kTag + 1, kPatience);
    }
    std::mt19937 random(seed_ * 100 + static_cast<unsigned>(gang.rank()));
    const auto delay =
        std::chrono::microseconds(std::uniform_int_distribution<int>(1000, 60'000)(random));
    std::thread killer([delay, signal_number] {
      std::this_thread::sleep_for(delay);
      kill(getpid(), signal_number);
    });
    try {
      for (;;) {
        Operate(gang, operation, gang.rank(), kPatience);
      }
    } catch (const CommError&) {
      killer.join();  // A survivor gave up before.
    }
    for (;;) {
      pause();
    }
  }

  MpiRuntime& runtime_;
  const unsigned seed_;
  std::ofstream report_;
  MpiMessenger messenger_{runtime_, {}};
};

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // A stopped rank must not outlive its mpirun.
  auto runtime = imageddpo::MpiRuntime::Start(&argc, &argv);
  unsigned seed = 0;
  if (!runtime.ok() || argc != 3 || !absl::SimpleAtoi(argv[1], &seed)) {
    return 2;
  }
  {
    imageddpo::Rank rank(**runtime, seed, argv[2]);
    rank.Run();
  }
  (*runtime)->Finish(0);
  return 0;
}

#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/comm/communicator.h"
#include "common/comm/mailbox/mailbox.h"

namespace imageddpo {

/// What there is to check, and how a rank gets its communicator.
struct CheckedDevices {
  int count = 0;
  std::string nccl_version;
  /// NCCL can be told to take several ranks on one device (2.30 and
  /// NCCL_MULTI_RANK_GPU_ENABLE=1).
  bool several_ranks_each = false;
  std::function<std::unique_ptr<Communicator>(std::shared_ptr<Mailbox> mailbox, int rank)>
      communicator;
  /// NCCL's calls alone, on one device (CheckLibraryCalls()). @return what is wrong.
  std::function<std::vector<std::string>(int device)> library_calls;
};

/// How many ranks to check with, and what to say about that number.
struct RankChoice {
  int ranks = 0;  ///< 0: nothing can be checked.
  std::string note;
};
/// @param asked  0: one for each device.
RankChoice ChooseRanks(const CheckedDevices& devices, int asked);

/// One case in a group of one size, as one rank or all of them saw it.
struct CaseResult {
  std::string name;
  int world_size = 0;
  double seconds = 0;
  std::vector<std::string> wrong;  ///< Nothing: all is well.
};

/// NCCL's calls alone, device by device: cases named LibraryCalls.
std::vector<CaseResult> CheckLibrary(const CheckedDevices& devices);

/// The conformance suite in groups of 1 to `ranks` ranks that are threads of this process.
std::vector<CaseResult> CheckOnThreads(const CheckedDevices& devices, int ranks);

/// The same as one rank among processes that share `folder`: the groups that it belongs to.
std::vector<CaseResult> CheckAsProcess(const CheckedDevices& devices,
                                       const std::filesystem::path& folder, int rank, int ranks);

/// The file in `folder` by which a rank of OutliveAPeer() says that its group is at work.
std::filesystem::path AtWorkFile(const std::filesystem::path& folder, int rank);

/// One of two ranks, processes that share `folder`, which sum tensors round after round until the
/// other one is killed. All is well if a wait then ends with an error, within `patience`.
CaseResult OutliveAPeer(const CheckedDevices& devices, const std::filesystem::path& folder,
                        int rank, std::chrono::milliseconds patience);

/// What ranks saw, case by case: the longest time, all that is wrong.
std::vector<CaseResult> Merge(const std::vector<std::vector<CaseResult>>& by_rank);

std::string CaseResultsToJson(const std::vector<CaseResult>& results);
/// @return false when the text is not what CaseResultsToJson() wrote.
bool CaseResultsFromJson(const std::string& text, std::vector<CaseResult>* results);

enum CheckExitCode { kCheckPassed = 0, kCheckFailed = 1, kCheckNotPossible = 2 };

/// {"exit_code", "devices", "nccl", "ranks", "note", "passed", "failed", "cases": [...]}
std::string CheckSummary(const CheckedDevices& devices, const RankChoice& choice,
                         const std::vector<CaseResult>& results, CheckExitCode exit_code);

CheckExitCode ExitCodeOf(const std::vector<CaseResult>& results);

}  // namespace imageddpo

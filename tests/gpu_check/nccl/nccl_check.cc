#include "tests/gpu_check/nccl/nccl_check.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/comm/mailbox/thread_communicator.h"
#include "tests/gpu_check/nccl/folder_mailbox.h"
#include "tests/testing/conformance/conformance.h"

namespace imageddpo {
namespace {

using Json = nlohmann::json;

CaseResult RunCase(const ConformanceCase& conformance_case, const CheckedDevices& devices,
                   std::shared_ptr<Mailbox> mailbox) {
  CaseResult result{.name = conformance_case.name, .world_size = mailbox->size()};
  const int rank = mailbox->rank();
  const auto start = std::chrono::steady_clock::now();
  try {
    for (const std::string& what :
         RunConformanceCase(conformance_case, devices.communicator(std::move(mailbox), rank))) {
      result.wrong.push_back(absl::StrCat("rank ", rank, ": ", what));
    }
  } catch (const std::exception& error) {
    result.wrong.push_back(absl::StrCat("rank ", rank, ": no communicator: ", error.what()));
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

Json ToJson(const CaseResult& result) {
  return {{"name", result.name},
          {"world_size", result.world_size},
          {"passed", result.wrong.empty()},
          {"seconds", result.seconds},
          {"wrong", result.wrong}};
}

}  // namespace

RankChoice ChooseRanks(const CheckedDevices& devices, int asked) {
  if (devices.count == 0) {
    return {0, "there is no GPU that CUDA can use on this machine: nothing was checked"};
  }
  if (asked > devices.count && !devices.several_ranks_each) {
    return {0, absl::StrCat(asked, " ranks were asked for, but there are ", devices.count,
                            " devices; several ranks on one device need NCCL 2.30 or later (this "
                            "is ",
                            devices.nccl_version, ") and NCCL_MULTI_RANK_GPU_ENABLE=1")};
  }
  RankChoice choice{.ranks = asked > 0 ? asked : devices.count};
  if (choice.ranks == 1) {
    choice.note =
        "one rank: NCCL's calls and what a rank does alone were checked, nothing crossed between "
        "devices";
  }
  return choice;
}

std::vector<CaseResult> CheckLibrary(const CheckedDevices& devices) {
  std::vector<CaseResult> results;
  for (int device = 0; device < devices.count; ++device) {
    const auto start = std::chrono::steady_clock::now();
    CaseResult result{.name = absl::StrCat("LibraryCalls.", device), .world_size = 1};
    result.wrong = devices.library_calls(device);
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    results.push_back(std::move(result));
  }
  return results;
}

std::vector<CaseResult> CheckOnThreads(const CheckedDevices& devices, int ranks) {
  std::vector<CaseResult> results;
  for (int size = 1; size <= ranks; ++size) {
    for (const auto& conformance_case : ConformanceCases()) {
      const auto mailboxes = MakeThreadMailboxes(size);
      std::vector<std::vector<CaseResult>> by_rank(mailboxes.size());
      std::vector<std::thread> threads;
      for (std::size_t rank = 0; rank < mailboxes.size(); ++rank) {
        threads.emplace_back(
            [&, rank] { by_rank[rank] = {RunCase(conformance_case, devices, mailboxes[rank])}; });
      }
      for (auto& thread : threads) {
        thread.join();
      }
      results.push_back(Merge(by_rank)[0]);
    }
  }
  return results;
}

std::vector<CaseResult> CheckAsProcess(const CheckedDevices& devices,
                                       const std::filesystem::path& folder, int rank, int ranks) {
  std::vector<CaseResult> results;
  for (int size = rank + 1; size <= ranks; ++size) {
    for (const auto& conformance_case : ConformanceCases()) {
      const FolderMailbox mailbox(folder / absl::StrCat(conformance_case.name, ".", size), rank,
                                  size);
      results.push_back(RunCase(conformance_case, devices, mailbox.mailbox()));
    }
  }
  return results;
}

std::filesystem::path AtWorkFile(const std::filesystem::path& folder, int rank) {
  return folder / absl::StrCat("rank-", rank, ".at-work");
}

CaseResult OutliveAPeer(const CheckedDevices& devices, const std::filesystem::path& folder,
                        int rank, std::chrono::milliseconds patience) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRoundsBefore = 3;
  constexpr int64_t kValues = int64_t{1} << 20;
  CaseResult result{.name = "OutlivesAPeer", .world_size = 2};
  const FolderMailbox mailbox(folder / result.name, rank, 2);
  auto start = Clock::now();
  try {
    const std::unique_ptr<Communicator> gang = devices.communicator(mailbox.mailbox(), rank);
    const at::Tensor values =
        at::zeros({kValues}, at::TensorOptions().dtype(at::kFloat).device(gang->device()));
    const auto until = Clock::now() + patience;
    for (int round = 0; Clock::now() < until; ++round) {
      start = Clock::now();
      gang->AllReduceSum(values, {.ranks = {0, 1}, .tag = 1})->Wait(patience);
      if (round == kRoundsBefore) std::ofstream(AtWorkFile(folder, rank)) << "\n";
    }
    result.wrong.push_back(absl::StrCat("rank ", rank, ": the other rank is still alive"));
  } catch (const CommError& error) {
    if (error.kind() == CommError::Kind::kAborted) {
      result.wrong.push_back(absl::StrCat("rank ", rank, ": ", error.what()));
    }
  } catch (const std::exception& error) {
    result.wrong.push_back(absl::StrCat("rank ", rank, ": no communicator: ", error.what()));
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

std::vector<CaseResult> Merge(const std::vector<std::vector<CaseResult>>& by_rank) {
  std::vector<CaseResult> merged;
  for (const auto& results : by_rank) {
    for (const CaseResult& result : results) {
      const auto same = std::find_if(merged.begin(), merged.end(), [&](const CaseResult& other) {
        return other.name == result.name && other.world_size == result.world_size;
      });
      if (same == merged.end()) {
        merged.push_back(result);
        continue;
      }
      same->seconds = std::max(same->seconds, result.seconds);
      same->wrong.insert(same->wrong.end(), result.wrong.begin(), result.wrong.end());
    }
  }
  return merged;
}

std::string CaseResultsToJson(const std::vector<CaseResult>& results) {
  Json json = Json::array();
  for (const CaseResult& result : results) {
    json.push_back(ToJson(result));
  }
  return json.dump();
}

bool CaseResultsFromJson(const std::string& text, std::vector<CaseResult>* results) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) {
    return false;
  }
  try {
    for (const Json& one : json) {
      results->push_back({.name = one.at("name"),
                          .world_size = one.at("world_size"),
                          .seconds = one.at("seconds"),
                          .wrong = one.at("wrong")});
    }
  } catch (const Json::exception&) {
    return false;
  }
  return true;
}

CheckExitCode ExitCodeOf(const std::vector<CaseResult>& results) {
  const bool all_good = std::all_of(results.begin(), results.end(),
                                    [](const CaseResult& result) { return result.wrong.empty(); });
  return all_good && !results.empty() ? kCheckPassed : kCheckFailed;
}

std::string CheckSummary(const CheckedDevices& devices, const RankChoice& choice,
                         const std::vector<CaseResult>& results, CheckExitCode exit_code) {
  const auto failed = std::count_if(results.begin(), results.end(),
                                    [](const CaseResult& result) { return !result.wrong.empty(); });
  Json cases = Json::array();
  for (const CaseResult& result : results) {
    cases.push_back(ToJson(result));
  }
  const Json json = {{"exit_code", static_cast<int>(exit_code)},
                     {"devices", devices.count},
                     {"nccl", devices.nccl_version},
                     {"ranks", choice.ranks},
                     {"note", choice.note},
                     {"passed", static_cast<std::int64_t>(results.size()) - failed},
                     {"failed", failed},
                     {"cases", cases}};
  return json.dump(2);
}

}  // namespace imageddpo

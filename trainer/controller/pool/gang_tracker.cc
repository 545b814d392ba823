#include "trainer/controller/pool/gang_tracker.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "trainer/controller/pool/verdict.h"

namespace imageddpo {

GangTracker::GangTracker(const std::vector<int>& world_ranks) {
  for (const int rank : world_ranks) ranks_[rank];
}

void GangTracker::Ended(int world_rank, const absl::Status& status) {
  const auto rank = ranks_.find(world_rank);
  if (rank == ranks_.end() || !rank->second.working) return;
  rank->second.working = false;
  if (!rank->second.status.ok()) return;  // Its first failure counts.
  rank->second.status = status;
  if (!status.ok()) failures_.push_back(world_rank);
}

bool GangTracker::Failed(int world_rank, const absl::Status& status) {
  const auto rank = ranks_.find(world_rank);
  if (rank == ranks_.end() || !rank->second.working || !rank->second.status.ok()) return false;
  rank->second.status = status;
  failures_.push_back(world_rank);
  return true;
}

void GangTracker::Died(int world_rank, const std::string& reason) {
  const auto rank = ranks_.find(world_rank);
  if (rank == ranks_.end() || !rank->second.working)
    return;  // What it reported before it died counts.
  rank->second.working = false;
  if (!rank->second.status.ok()) return;
  rank->second.died = true;
  rank->second.reason = reason;
  failures_.push_back(world_rank);
}

bool GangTracker::AllGone() const {
  return std::none_of(ranks_.begin(), ranks_.end(),
                      [](const auto& entry) { return entry.second.working; });
}

bool GangTracker::Broken() const { return !failures_.empty(); }

std::vector<int> GangTracker::Working() const {
  std::vector<int> working;
  for (const auto& [world_rank, rank] : ranks_) {
    if (rank.working) working.push_back(world_rank);
  }
  return working;
}

GangTracker::Outcome GangTracker::GetOutcome() const {
  std::string death, outside, unclear, consequence;
  for (const int world_rank : failures_) {
    const Rank& rank = ranks_.at(world_rank);
    if (rank.died) {
      if (death.empty()) death = rank.reason;
      continue;
    }
    if (const std::optional<std::string> waiting_for = PausesJobFor(rank.status)) {
      return {Outcome::Kind::kPause, std::string(rank.status.message()), *waiting_for};
    }
    if (const std::optional<int64_t> epochs = RollsBackTo(rank.status)) {
      return {Outcome::Kind::kRollBack, std::string(rank.status.message()), "", *epochs};
    }
    const Verdict verdict = Judge(rank.status);
    const std::string reason = verdict == Verdict::kJobsFault
                                   ? std::string(rank.status.message())
                                   : absl::StrCat("rank ", world_rank, ": ", rank.status.message());
    if (verdict == Verdict::kJobsFault || verdict == Verdict::kOnThisRank) {
      return {Outcome::Kind::kFailed, reason, ""};
    }
    std::string& first = verdict == Verdict::kOutside   ? outside
                         : verdict == Verdict::kUnclear ? unclear
                                                        : consequence;
    if (first.empty()) first = reason;
  }
  if (!death.empty()) return {Outcome::Kind::kRecover, death, ""};
  if (!outside.empty()) return {Outcome::Kind::kRecover, outside, ""};
  if (!unclear.empty()) return {Outcome::Kind::kFailed, unclear, ""};
  if (!consequence.empty()) return {Outcome::Kind::kRecover, consequence, ""};
  return {};
}

}  // namespace imageddpo

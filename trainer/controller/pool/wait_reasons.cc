// Why each job of the queue waits, in words.

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "trainer/controller/pool/scheduler.h"

namespace imageddpo {
namespace {

constexpr double kSecondsPerMinute = 60;

}  // namespace

std::map<std::string, std::string> Scheduler::WaitReasons() const {
  std::map<std::string, std::string> reasons;
  const std::vector<QueuedJob> places = Places();
  QueueOrder order(places, Share());
  std::string first;
  while (const QueuedJob* const place = order.Next()) {
    reasons[place->id] = WaitReason(queue_.at(place->number), &first);
  }
  return reasons;
}

std::string Scheduler::WaitReason(const Waiting& waiting, std::string* first) const {
  if (!waiting.held_for.empty()) return waiting.held_for;
  const std::string& owner = waiting.place.owner;
  const absl::StatusOr<TopologyChoice> choice = Fit(waiting);
  if (!choice.ok() && FitsLivePool(waiting)) {
    return absl::StrCat("waits for drained workers: ", pool_size() - num_usable(), " of ",
                        workers_.size(), " are drained; ", choice.status().message());
  }
  if (!choice.ok() && !FitsWholePool(waiting))
    return absl::StrCat("waits for more workers: ", choice.status().message());
  if (choice.ok() && ExceedsQuota(owner, choice->topology.ranks())) {
    return absl::StrCat(
        "waits for other jobs of ", owner.empty() ? "nobody" : owner, ", which have ",
        share_.RanksOf(owner), " of the ", options_.ranks_per_owner,
        " ranks that `quotas.running_ranks` allows; it takes ", choice->topology.ranks());
  }
  if (!first->empty()) return absl::StrCat("waits behind ", *first);
  *first = waiting.place.id;
  if (!choice.ok()) {
    return absl::StrCat(
        "waits until all ranks are started again, as soon as no job runs: ", num_dead(), " of ",
        workers_.size(), " workers died; ", choice.status().message());
  }
  std::string reason =
      absl::StrCat("waits for ", choice->topology.ranks(),
                   choice->topology.ranks() == 1 ? " free worker" : " free workers", ": ",
                   num_free(), " of ", num_usable(), num_usable() == 1 ? " is free" : " are free");
  if (head_.has_value() && head_->job_id == *first && std::isfinite(head_->reservation.in_s)) {
    absl::StrAppend(&reason, "; expected within ",
                    std::ceil(head_->reservation.in_s / kSecondsPerMinute), " min");
  }
  return reason;
}

}  // namespace imageddpo

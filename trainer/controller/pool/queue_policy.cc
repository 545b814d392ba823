#include "trainer/controller/pool/queue_policy.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

namespace imageddpo {

QueueOrder::QueueOrder(const std::vector<QueuedJob>& jobs,
                       std::function<double(const std::string& owner)> share)
    : share_(std::move(share)) {
  for (const QueuedJob& job : jobs) {
    Jobs& level = levels_[{!job.recovers, job.priority}];
    // Owners do not matter among jobs that recover: they had their turn.
    const std::string owner = job.recovers ? "" : job.owner;
    level.by_owner[owner].push_back(&job);
    if (job.reserved) level.first_owner = owner;
  }
  for (auto& [level, of_level] : levels_) {
    for (auto& [owner, queue] : of_level.by_owner) {
      std::sort(queue.begin(), queue.end(),
                [](const QueuedJob* a, const QueuedJob* b) { return a->number < b->number; });
    }
  }
}

const QueuedJob* QueueOrder::Next() {
  if (levels_.empty()) return nullptr;
  Jobs& level = levels_.begin()->second;
  auto first = level.by_owner.begin();
  if (level.first_owner.has_value()) {
    first = level.by_owner.find(*level.first_owner);
  } else {
    double least = share_(first->first);
    for (auto other = std::next(first); other != level.by_owner.end(); ++other) {
      const double share = share_(other->first);
      if (std::pair(share, other->second.front()->number) <
          std::pair(least, first->second.front()->number)) {
        first = other;
        least = share;
      }
    }
  }
  const QueuedJob* const job = first->second.front();
  if (job->reserved) level.first_owner.reset();
  first->second.pop_front();
  if (first->second.empty()) level.by_owner.erase(first);
  if (level.by_owner.empty()) levels_.erase(levels_.begin());
  return job;
}

bool Reservation::Allows(int ranks, double seconds) const {
  return ranks <= spare || (std::isfinite(in_s) && seconds <= in_s);
}

void Reservation::Started(int ranks, double seconds) {
  if (!std::isfinite(in_s) || seconds > in_s) spare -= ranks;
}

Reservation Reserve(int ranks, int free, std::vector<GangAtWork> at_work) {
  std::sort(at_work.begin(), at_work.end(), [](const GangAtWork& a, const GangAtWork& b) {
    return std::pair(a.seconds_left, a.number) < std::pair(b.seconds_left, b.number);
  });
  Reservation reservation;
  for (auto gang = at_work.begin(); gang != at_work.end(); ++gang) {
    free += gang->ranks;
    if (free < ranks) continue;
    reservation.in_s = std::max(0.0, gang->seconds_left);
    for (auto later = std::next(gang); later != at_work.end(); ++later) {
      if (later->seconds_left <= gang->seconds_left) free += later->ranks;
    }
    break;
  }
  reservation.spare = std::max(0, free - ranks);
  return reservation;
}

std::vector<std::string> ChoosePreempted(int ranks, int32_t priority, int free,
                                         std::vector<GangAtWork> at_work) {
  for (const GangAtWork& gang : at_work) free += gang.leaves ? gang.ranks : 0;
  std::erase_if(at_work, [priority](const GangAtWork& gang) {
    return gang.leaves || gang.priority >= priority;
  });
  std::sort(at_work.begin(), at_work.end(), [](const GangAtWork& a, const GangAtWork& b) {
    return std::pair(int64_t{a.priority}, -a.number) < std::pair(int64_t{b.priority}, -b.number);
  });
  std::vector<GangAtWork> chosen;
  for (const GangAtWork& gang : at_work) {
    if (free >= ranks) break;
    free += gang.ranks;
    chosen.push_back(gang);
  }
  if (free < ranks) return {};
  // The last ones may have made some of the first ones needless.
  std::vector<std::string> ids;
  for (auto gang = chosen.rbegin(); gang != chosen.rend(); ++gang) {
    if (free - gang->ranks >= ranks) {
      free -= gang->ranks;
    } else {
      ids.push_back(gang->job_id);
    }
  }
  return {ids.rbegin(), ids.rend()};
}

}  // namespace imageddpo

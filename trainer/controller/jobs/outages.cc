#include "trainer/controller/jobs/outages.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr double kFirstPauseSeconds = 5;
constexpr double kLongestPauseSeconds = 60;

bool Waits(const v1::Job& job) {
  return job.state() == v1::PAUSED && !job.progress().waiting_for().empty();
}

}  // namespace

Outages::Outages(Dependencies dependencies) : dependencies_(std::move(dependencies)) {}

void Outages::Tick() {
  if (dependencies_.ask == nullptr) return;
  const double now_s = dependencies_.clock.NowSeconds();
  std::map<std::string, Look> looks;
  for (const JobRecord* record : dependencies_.table.All()) {
    if (!Waits(record->job)) continue;
    const std::string& id = record->job.id();
    const auto known = looks_.find(id);
    Look look = known != looks_.end()
                    ? known->second
                    : Look{.pauses = Backoff(kFirstPauseSeconds, kLongestPauseSeconds)};
    if (!look.pauses.failing()) look.pauses.Failed(now_s);  // Just paused: it was away then.
    if (!look.is_asked && look.pauses.IsDue(now_s)) {
      // One that this version cannot run is put into the queue, which says so.
      const absl::StatusOr<ResolvedJob> job = ResolvedJob::Reopen(record->job.spec());
      if (!job.ok()) {
        OnAnswer(id, true);
        continue;
      }
      dependencies_.ask(id, *job);
      look.is_asked = true;
    }
    looks[id] = look;
  }
  looks_ = std::move(looks);
}

void Outages::OnAnswer(const std::string& job_id, bool is_back) {
  JobRecord* const record = dependencies_.table.Find(job_id);
  if (record == nullptr || !Waits(record->job)) return;
  if (is_back) {
    const std::string reason = absl::StrCat("goes on by itself: no longer waits for ",
                                            record->job.progress().waiting_for());
    if (!dependencies_.table.Transition(*record, v1::QUEUED, reason).ok()) return;
    return dependencies_.recovery.Requeue(*record);
  }
  const auto look = looks_.find(job_id);
  if (look == looks_.end()) return;
  look->second.is_asked = false;
  look->second.pauses.Failed(dependencies_.clock.NowSeconds());
}

}  // namespace imageddpo

#include "trainer/controller/jobs/job_state.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/rejection.h"
#include "common/config/job_states.h"

namespace imageddpo {
namespace {

struct Transition {
  v1::JobState from;
  v1::JobState to;
};

constexpr auto kTransitions = std::to_array<Transition>({
    {v1::QUEUED, v1::STARTING},
    {v1::QUEUED, v1::PAUSED},
    {v1::QUEUED, v1::CANCELLED},
    {v1::QUEUED, v1::FAILED},

    {v1::STARTING, v1::RUNNING},
    {v1::STARTING, v1::PAUSING},
    {v1::STARTING, v1::PAUSED},  // Something that it needs is away.
    {v1::STARTING, v1::RECOVERING},
    {v1::STARTING, v1::CANCELLING},
    {v1::STARTING, v1::SUCCEEDED},  // It came back from a checkpoint of its last epoch.
    {v1::STARTING, v1::FAILED},

    {v1::RUNNING, v1::PAUSING},
    {v1::RUNNING, v1::PAUSED},  // The same, or it cannot go on without its owner.
    {v1::RUNNING, v1::RECOVERING},
    {v1::RUNNING, v1::CANCELLING},
    {v1::RUNNING, v1::SUCCEEDED},
    {v1::RUNNING, v1::FAILED},

    {v1::PAUSING, v1::PAUSED},  // Also when a rank or the service was lost meanwhile.
    {v1::PAUSING, v1::CANCELLING},
    {v1::PAUSING, v1::SUCCEEDED},  // The epoch was its last one.
    {v1::PAUSING, v1::FAILED},

    {v1::PAUSED, v1::QUEUED},
    {v1::PAUSED, v1::CANCELLED},

    {v1::RECOVERING, v1::STARTING},
    {v1::RECOVERING, v1::PAUSING},  // Some of its ranks still work.
    {v1::RECOVERING, v1::PAUSED},
    {v1::RECOVERING, v1::CANCELLING},  // Some of its ranks still work.
    {v1::RECOVERING, v1::CANCELLED},
    {v1::RECOVERING, v1::FAILED},

    {v1::CANCELLING, v1::CANCELLED},

    {v1::FAILED, v1::QUEUED},  // Resumed by request, as PAUSED.
    {v1::CANCELLED, v1::QUEUED},
});

/// A set of states, a bit each.
template <typename... States>
constexpr uint32_t SetOf(States... states) {
  return ((uint32_t{1} << static_cast<int>(states)) | ...);
}
constexpr uint32_t kEnded = SetOf(v1::SUCCEEDED, v1::FAILED, v1::CANCELLED);
constexpr uint32_t kTrains = SetOf(v1::STARTING, v1::RUNNING, v1::PAUSING);
constexpr uint32_t kMayPause = kTrains | SetOf(v1::QUEUED, v1::PAUSED, v1::RECOVERING);
constexpr uint32_t kUnfinished = kMayPause | SetOf(v1::CANCELLING);
constexpr uint32_t kAny = kUnfinished | kEnded;

/// What users may ask, and in which states.
struct Verb {
  const char* name;
  uint32_t states;
};
constexpr auto kVerbs = std::to_array<Verb>({
    {"branch", kAny},  // Where it has a checkpoint.
    {"cancel", kUnfinished},
    {"checkpoint", kTrains},
    {"delete", kEnded},
    {"pause", kMayPause},
    {"profile", SetOf(v1::RUNNING)},
    {"resume", SetOf(v1::PAUSED, v1::FAILED, v1::CANCELLED)},
    {"update", kAny},  // Labels always.
});

}  // namespace

absl::Status CheckTransition(v1::JobState from, v1::JobState to) {
  const bool legal = std::any_of(
      kTransitions.begin(), kTransitions.end(),
      [&](const Transition& transition) { return transition.from == from && transition.to == to; });
  if (legal) return absl::OkStatus();
  const std::string why =
      IsFinal(from)
          ? absl::StrCat("the job has already ended: ", StateName(from))
          : absl::StrCat("a job that is ", StateName(from), " cannot become ", StateName(to));
  return WithReason(absl::FailedPreconditionError(why), Reason::kJobState,
                    {{"state", StateName(from)}});
}

std::vector<v1::JobState> NextStates(v1::JobState from) {
  std::vector<v1::JobState> next;
  for (const Transition& transition : kTransitions) {
    if (transition.from == from) next.push_back(transition.to);
  }
  return next;
}

std::vector<std::string> VerbsIn(v1::JobState state) {
  std::vector<std::string> verbs;
  for (const Verb& verb : kVerbs) {
    if ((verb.states & SetOf(state)) != 0) verbs.emplace_back(verb.name);
  }
  return verbs;
}

absl::Status StateForbids(const std::string& job_id, v1::JobState state, const std::string& hint) {
  const std::string possible = absl::StrJoin(VerbsIn(state), ", ");
  return WithReason(absl::FailedPreconditionError(absl::StrCat(
                        job_id, IsFinal(state) ? " has already ended: " : " is ", StateName(state),
                        hint.empty() ? "" : ": ", hint, "; possible now: ", possible)),
                    Reason::kJobState,
                    {{"job", job_id}, {"state", StateName(state)}, {"possible", possible}});
}

std::string WaitsForDisk(const absl::Status& why) {
  return absl::StrCat("waits for the service's disk, which is tried again by itself: ",
                      why.message());
}

bool IsOutOfTime(const v1::Job& job) {
  const v1::JobProgress& progress = job.progress();
  return job.max_seconds() > 0 &&
         progress.run_seconds() + progress.newest_epoch().epoch_seconds() > job.max_seconds();
}

std::string PauseReason(const v1::Job& job) {
  if (const std::string& by = job.progress().preempted_by(); !by.empty()) {
    return absl::StrCat("makes room for ", by, ", whose priority is higher; goes on by itself");
  }
  if (!IsOutOfTime(job)) return "paused by request";
  return absl::StrCat(
      "out of time: its ranks have worked for ", std::llround(job.progress().run_seconds()),
      " s of the ", std::llround(job.max_seconds()),
      " s that `max_seconds` allows, and another epoch would not end in time; raise "
      "it with `imageddpo update --max-seconds`, then resume the job");
}

bool HoldsRanks(v1::JobState state) {
  return state == v1::STARTING || state == v1::RUNNING || state == v1::PAUSING ||
         state == v1::CANCELLING;
}

bool WaitsForRanks(v1::JobState state) { return state == v1::QUEUED || state == v1::RECOVERING; }

}  // namespace imageddpo

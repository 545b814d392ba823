#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// The states of a job and their transitions; nothing else defines them:
///
///   QUEUED ──► STARTING ──► RUNNING ──► SUCCEEDED
///                │  ▲          │
///                ▼  │          ▼
///              RECOVERING ◄────┘
///
///   paused while ranks work for it ──► PAUSING ──► PAUSED; otherwise ──► PAUSED
///   its ranks end with an error that pauses it: STARTING, RUNNING ──► PAUSED
///   cancelled while ranks work for it ──► CANCELLING ──► CANCELLED; otherwise ──► CANCELLED
///   QUEUED, STARTING, RUNNING, PAUSING, RECOVERING ──► FAILED
///   resumed: PAUSED, FAILED, CANCELLED ──► QUEUED; PAUSED also by itself (Outages, Recovery)
///   submitted to be held: PAUSED
///
/// Only JobTable changes a job's state.
/// @return FAILED_PRECONDITION if the transition is not allowed.
absl::Status CheckTransition(v1::JobState from, v1::JobState to);

/// The states that may follow `from`. A final one (IsFinal) is left by a user's wish alone, and
/// SUCCEEDED never.
std::vector<v1::JobState> NextStates(v1::JobState from);

/// What users may ask of a job that is in this state, as the client's commands are called, in
/// alphabetical order; no verb but these succeeds. Nothing else defines them.
std::vector<std::string> VerbsIn(v1::JobState state);

/// What is answered where the state forbids a verb: "job-000001 is RUNNING: HINT; possible now:
/// branch, …". @param hint  what the verb needs.
absl::Status StateForbids(const std::string& job_id, v1::JobState state, const std::string& hint);

/// The reason of a job that waits because the service's own disk has failed so.
std::string WaitsForDisk(const absl::Status& why);

/// Whether the job's next epoch, if it takes as long as the last one, would end after its
/// max_seconds.
bool IsOutOfTime(const v1::Job& job);

/// Why a job is PAUSED that did not pause of itself: it makes room for another one, is out of time,
/// or was asked to.
std::string PauseReason(const v1::Job& job);

/// Whether ranks work for the job, or did when the process ended: STARTING, RUNNING, PAUSING,
/// CANCELLING.
bool HoldsRanks(v1::JobState state);

/// Whether the job is in the queue for free ranks: QUEUED, RECOVERING.
bool WaitsForRanks(v1::JobState state);

}  // namespace imageddpo

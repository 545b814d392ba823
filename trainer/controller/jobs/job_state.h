#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// The states of a job and their transitions; nothing else defines them:
///
///   QUEUED ──► STARTING ──► RUNNING ──► SUCCEEDED
///                │  ▲          │  └───► PAUSING ──► PAUSED ──► QUEUED
///                ▼  │          ▼
///              RECOVERING ◄────┘
///
///   any state that is not final ──► FAILED
///   cancelled while it holds ranks ──► CANCELLING ──► CANCELLED; otherwise ──► CANCELLED
///
/// Only JobTable changes a job's state.
/// @return FAILED_PRECONDITION if the transition is not allowed.
absl::Status CheckTransition(v1::JobState from, v1::JobState to);

/// The states that may follow `from`; empty for final ones (IsFinal).
std::vector<v1::JobState> NextStates(v1::JobState from);

/// Whether ranks work for the job, or did when the process ended: STARTING, RUNNING, PAUSING,
/// CANCELLING.
bool HoldsRanks(v1::JobState state);

/// Whether the job is in the queue for free ranks: QUEUED, RECOVERING.
bool WaitsForRanks(v1::JobState state);

}  // namespace imageddpo

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// The life of a job, and the only place that says which change follows which:
///
///   QUEUED ──► STARTING ──► RUNNING ──► SUCCEEDED
///                │  ▲          │  └───► PAUSING ──► PAUSED ──► QUEUED
///                ▼  │          ▼
///              RECOVERING ◄────┘          any that is not final ──► FAILED
///                                         with ranks ──► CANCELLING ──► CANCELLED, without ──►
///                                         CANCELLED
///
/// Changes are made by JobTable alone.
absl::Status CheckTransition(v1::JobState from, v1::JobState to);

/// The states that may follow `from`; empty for final ones (IsFinal).
std::vector<v1::JobState> NextStates(v1::JobState from);

/// The job has, or had when the process died, ranks that work for it: STARTING, RUNNING, PAUSING,
/// CANCELLING.
bool HoldsRanks(v1::JobState state);

/// Waits for free ranks: QUEUED, RECOVERING.
bool WaitsForRanks(v1::JobState state);

}  // namespace imageddpo

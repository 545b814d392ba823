#pragma once

#include "absl/status/status.h"

namespace imageddpo {

/// What an error means for the job that it came from. The one place where this is judged: from the
/// error's Fault (common/base/status.h), and from its code where it has none.
enum class Verdict {
  /// The job, its reward or its data would fail again: FAILED.
  kJobsFault,
  /// Something outside of the job: the job waits or is tried again, and is never FAILED for it at
  /// once.
  kOutside,
  /// A peer is gone, does not answer or was told to stop: the cause is another rank's error.
  kConsequence,
  /// A bug, or a transport that failed, possibly because a peer died.
  kUnclear,
  /// The job's, and naming the rank that found it helps.
  kOnThisRank,
};

/// @param status  an error.
Verdict Judge(const absl::Status& status);

}  // namespace imageddpo

#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/str_format.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// "job-000012".
inline std::string JobIdOf(int64_t number) { return absl::StrFormat("job-%06d", number); }

/// All that is known of one job: what the API shows, and what the controller needs besides. It is
/// stored as it stands here.
struct JobRecord {
  int64_t number = 0;      ///< 1, 2, 3, ...: the order of submission; job.id is JobIdOf() of it.
  v1::Job job;             ///< job.progress without what changes many times a second.
  std::string request_id;  ///< Empty: none was given.
  std::string request_sha256;  ///< Of the spec as it came in.

  int64_t last_event = 0;  ///< Number of the newest event.
  /// Epochs 0 .. epochs_reported-1 have their event. An epoch that is repeated after a resume has
  /// none.
  int64_t epochs_reported = 0;
  int64_t eval_reported = -1;        ///< Newest evaluation that has its event.
  int64_t checkpoint_reported = -1;  ///< Newest checkpoint that has its event.
  /// Deaths since the newest epoch that was new.
  int32_t restarts_without_epoch = 0;
};

}  // namespace imageddpo

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "common/model_config/model_count.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// "job-000012".
inline std::string JobIdOf(int64_t number) { return absl::StrFormat("job-%06d", number); }

/// Everything that is stored about one job: what the API shows, and what the controller needs in
/// addition.
struct JobRecord {
  int64_t number = 0;      ///< 1, 2, 3, ...: the order of submission; job.id is JobIdOf() of it.
  v1::Job job;             ///< job.progress without what changes many times a second.
  std::string request_id;  ///< Empty: none was given.
  std::string request_sha256;  ///< Of the spec as submitted.
  /// For `topology: auto`, so that it needs no file later. Not set: the model could not be counted,
  /// or an earlier version stored the job.
  std::optional<ModelCount> model = std::nullopt;

  int64_t last_event = 0;  ///< Number of the newest event.
  /// Epochs 0 .. epochs_reported-1 have an event. An epoch that is repeated after a resume gets no
  /// second one.
  int64_t epochs_reported = 0;
  int64_t eval_reported = -1;        ///< Newest evaluation that has an event.
  int64_t checkpoint_reported = -1;  ///< Newest checkpoint that has an event.
  /// Deaths since the last epoch that was finished for the first time.
  int32_t restarts_without_epoch = 0;
};

/// What an owner's jobs have taken of the pool: rank-seconds, as they counted at `at_s` (seconds
/// since 1970).
struct OwnerUsage {
  std::string owner;
  double rank_seconds = 0;
  double at_s = 0;
};

}  // namespace imageddpo

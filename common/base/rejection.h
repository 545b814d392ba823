#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

/// What programs learn of an error beside its code and its message. It travels inside the
/// absl::Status, is set where the error is made, and crosses the API as google.rpc.ErrorInfo and
/// google.rpc.BadRequest (trainer/controller/streams/grpc_status.h, and the client's half in
/// deploy/imageddpo/client/grpc_details.h).
namespace imageddpo {

/// Why a call is refused. Their names are part of the API: docs/api.md lists them.
enum class Reason {
  kInvalidSettings,   ///< Of a job; every fault is a violation.
  kInvalidField,      ///< Of a request; it is a violation.
  kPathNotAllowed,    ///< A job names a path outside of the allowed roots.
  kRewardNotAllowed,  ///< A job names a reward that the operator does not allow.
  kJobNotFound,
  kJobState,         ///< The job's state forbids it.
  kRanksNotStopped,  ///< The job has ended, and some of its ranks have not.
  kJobInUse,         ///< Another job needs its files.
  kNoCheckpoint,     ///< There is none of that epoch, or none at all.
  kRequestIdUsed,    ///< For another job.
  kPoolTooSmall,     ///< The ranks, their devices or their memory do not suffice for the job.
  kQueueFull,
  kQuotaExceeded,  ///< Of the job's owner.
  kDiskFull,
  kTooManyCalls,  ///< Of the caller at a time.
  kNotReady,      ///< The service starts, ends or restarts.
  kBadToken,      ///< None, a foreign, a revoked or an expired one.
  kRoleTooLow,
  kNotOwner,
  kAuditFailed,  ///< The audit log cannot be written.
};

/// "JOB_STATE"
absl::string_view ReasonName(Reason reason);
/// All names, for what lists them.
std::vector<absl::string_view> ReasonNames();

/// One fault of what was sent.
struct FieldViolation {
  std::string field;        ///< "sample.num_steps", "rewards[0].model", "page_size"
  std::string description;  ///< What is wrong, and what would do.

  bool operator==(const FieldViolation&) const = default;
};

struct Rejection {
  std::string reason;  ///< A ReasonName(), or of a newer service; never empty.
  std::map<std::string, std::string> metadata = {};  ///< {"job", "job-000001"}
  std::vector<FieldViolation> violations = {};

  bool operator==(const Rejection&) const = default;
};

/// The same error with this rejection, in place of an earlier one; OK stays OK.
absl::Status WithRejection(absl::Status status, const Rejection& rejection);
/// The same error with this reason; violations that it has stay.
absl::Status WithReason(absl::Status status, Reason reason,
                        std::map<std::string, std::string> metadata = {});
/// Of an error. Where nobody has set a reason, the name of its code: "NOT_FOUND".
Rejection RejectionOf(const absl::Status& status);

/// An error with all faults of a job's settings: one a line, each a violation of the first setting
/// that its text names in `backquotes`. OK without faults.
absl::Status InvalidSettings(const std::vector<std::string>& faults,
                             absl::StatusCode code = absl::StatusCode::kInvalidArgument,
                             Reason reason = Reason::kInvalidSettings);

/// INVALID_ARGUMENT for one field of a request: "`page_size` is -1; it must not be negative".
/// @param fault  "is -1; it must not be negative"
absl::Status InvalidField(absl::string_view field, absl::string_view fault);

}  // namespace imageddpo

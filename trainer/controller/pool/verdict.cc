#include "trainer/controller/pool/verdict.h"

#include "common/base/status.h"

namespace imageddpo {
namespace {

bool IsOfJob(Whose whose) {
  return whose == Whose::kJob || whose == Whose::kReward || whose == Whose::kData;
}

}  // namespace

Verdict Judge(const absl::Status& status) {
  if (const auto fault = FaultOf(status); fault.has_value()) {
    return IsOfJob(fault->whose) && !fault->passes ? Verdict::kJobsFault : Verdict::kOutside;
  }
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
      return Verdict::kConsequence;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return Verdict::kUnclear;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
      return Verdict::kJobsFault;
    default:
      return Verdict::kOnThisRank;
  }
}

}  // namespace imageddpo

#include "common/base/status.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/rejection.h"

namespace imageddpo {
namespace {

constexpr char kPausesJob[] = "imageddpo/pauses_job";  // Type of the payload.
constexpr char kRollsBack[] = "imageddpo/rolls_back";
constexpr char kFaultUrl[] = "imageddpo/fault";
constexpr char kPasses = '+';
constexpr char kLasts = '-';

bool MayPass(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EIO:
    case EREMOTEIO:
    case ESTALE:
    case EROFS:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOLCK:
    case EAGAIN:
    case ETIMEDOUT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOTCONN:
    case ESHUTDOWN:
      return true;
    default:
      return false;
  }
}

constexpr char kRejectionUrl[] = "imageddpo/rejection";  // Type of the payload.

struct ReasonRow {
  Reason reason;
  const char* name;
};
constexpr auto kReasons = std::to_array<ReasonRow>({
    {Reason::kInvalidSettings, "INVALID_SETTINGS"},
    {Reason::kInvalidField, "INVALID_FIELD"},
    {Reason::kPathNotAllowed, "PATH_NOT_ALLOWED"},
    {Reason::kRewardNotAllowed, "REWARD_NOT_ALLOWED"},
    {Reason::kJobNotFound, "JOB_NOT_FOUND"},
    {Reason::kJobState, "JOB_STATE"},
    {Reason::kRanksNotStopped, "RANKS_NOT_STOPPED"},
    {Reason::kJobInUse, "JOB_IN_USE"},
    {Reason::kNoCheckpoint, "NO_CHECKPOINT"},
    {Reason::kRequestIdUsed, "REQUEST_ID_USED"},
    {Reason::kPoolTooSmall, "POOL_TOO_SMALL"},
    {Reason::kQueueFull, "QUEUE_FULL"},
    {Reason::kQuotaExceeded, "QUOTA_EXCEEDED"},
    {Reason::kDiskFull, "DISK_FULL"},
    {Reason::kTooManyCalls, "TOO_MANY_CALLS"},
    {Reason::kNotReady, "NOT_READY"},
    {Reason::kBadToken, "BAD_TOKEN"},
    {Reason::kRoleTooLow, "ROLE_TOO_LOW"},
    {Reason::kNotOwner, "NOT_OWNER"},
    {Reason::kAuditFailed, "AUDIT_FAILED"},
});

// The payload is a list of texts, each behind its size: "9:JOB_STATE".
void AppendText(const std::string& text, std::string* payload) {
  absl::StrAppend(payload, text.size(), ":", text);
}

class TextReader {
 public:
  explicit TextReader(std::string payload) : payload_(std::move(payload)) {}

  /// "" at the end.
  std::string Next() {
    const size_t colon = payload_.find(':', at_);
    size_t size = 0;
    if (colon == std::string::npos || !absl::SimpleAtoi(payload_.substr(at_, colon - at_), &size)) {
      return "";
    }
    at_ = colon + 1 + size;
    return payload_.substr(colon + 1, size);
  }
  size_t NextCount() {
    size_t count = 0;
    return absl::SimpleAtoi(Next(), &count) ? count : 0;
  }

 private:
  const std::string payload_;
  size_t at_ = 0;
};

/// "rewards[0].type" of "`rewards[0].type: ssim` compares …"; "" where no text stands so.
std::string FieldNamedIn(const std::string& fault) {
  const size_t begin = fault.find('`');
  if (begin == std::string::npos) return "";
  const size_t end = fault.find_first_of("`:= ", begin + 1);
  return fault.substr(begin + 1, end == std::string::npos ? end : end - begin - 1);
}

}  // namespace

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) {
    return status;
  }
  absl::Status annotated(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload([&annotated](absl::string_view type_url, const absl::Cord& payload) {
    annotated.SetPayload(type_url, payload);
  });
  return annotated;
}

absl::Status WithFault(absl::Status status, const Fault& fault) {
  const std::string text = {static_cast<char>('0' + static_cast<int>(fault.whose)),
                            fault.passes ? kPasses : kLasts};
  status.SetPayload(kFaultUrl, absl::Cord(text));
  return status;
}

std::optional<Fault> FaultOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kFaultUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string text(*payload);
  return Fault{.whose = static_cast<Whose>(text.at(0) - '0'), .passes = text.at(1) == kPasses};
}

absl::Status ErrnoStatus(int error_number, absl::string_view message) {
  absl::Status status = absl::ErrnoToStatus(error_number, message);
  if (!MayPass(error_number)) return status;
  return WithFault(std::move(status), {.whose = Whose::kHost, .passes = true});
}

absl::Status PausesJob(absl::Status status, absl::string_view waiting_for) {
  status.SetPayload(kPausesJob, absl::Cord(waiting_for));
  return status;
}

std::optional<std::string> PausesJobFor(const absl::Status& status) {
  const auto payload = status.GetPayload(kPausesJob);
  if (!payload.has_value()) return std::nullopt;
  return std::string(*payload);
}

absl::Status RollsBack(absl::Status status, int64_t epochs) {
  status.SetPayload(kRollsBack, absl::Cord(absl::StrCat(epochs)));
  return status;
}

std::optional<int64_t> RollsBackTo(const absl::Status& status) {
  const auto payload = status.GetPayload(kRollsBack);
  int64_t epochs = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &epochs)) {
    return std::nullopt;
  }
  return epochs;
}

absl::string_view ReasonName(Reason reason) {
  for (const ReasonRow& row : kReasons) {
    if (row.reason == reason) return row.name;
  }
  return "UNKNOWN";
}

std::vector<absl::string_view> ReasonNames() {
  std::vector<absl::string_view> names;
  for (const ReasonRow& row : kReasons) names.emplace_back(row.name);
  return names;
}

absl::Status WithRejection(absl::Status status, const Rejection& rejection) {
  std::string payload;
  AppendText(rejection.reason, &payload);
  AppendText(absl::StrCat(rejection.metadata.size()), &payload);
  for (const auto& [key, value] : rejection.metadata) {
    AppendText(key, &payload);
    AppendText(value, &payload);
  }
  AppendText(absl::StrCat(rejection.violations.size()), &payload);
  for (const FieldViolation& violation : rejection.violations) {
    AppendText(violation.field, &payload);
    AppendText(violation.description, &payload);
  }
  status.SetPayload(kRejectionUrl, absl::Cord(payload));  // Does nothing where it is OK.
  return status;
}

absl::Status WithReason(absl::Status status, Reason reason,
                        std::map<std::string, std::string> metadata) {
  Rejection rejection = RejectionOf(status);
  rejection.reason = std::string(ReasonName(reason));
  rejection.metadata = std::move(metadata);
  return WithRejection(std::move(status), rejection);
}

Rejection RejectionOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kRejectionUrl);
  if (!payload.has_value()) return {.reason = absl::StatusCodeToString(status.code())};
  TextReader reader{std::string(*payload)};
  Rejection rejection{.reason = reader.Next()};
  for (size_t left = reader.NextCount(); left > 0; --left) {
    std::string key = reader.Next();
    rejection.metadata[std::move(key)] = reader.Next();
  }
  for (size_t left = reader.NextCount(); left > 0; --left) {
    std::string field = reader.Next();
    rejection.violations.push_back({std::move(field), reader.Next()});
  }
  return rejection;
}

absl::Status InvalidSettings(const std::vector<std::string>& faults, absl::StatusCode code,
                             Reason reason) {
  if (faults.empty()) return absl::OkStatus();
  Rejection rejection{.reason = std::string(ReasonName(reason))};
  for (const std::string& fault : faults) {
    rejection.violations.push_back({FieldNamedIn(fault), fault});
  }
  return WithRejection(absl::Status(code, absl::StrJoin(faults, "\n")), rejection);
}

absl::Status InvalidField(absl::string_view field, absl::string_view fault) {
  return InvalidSettings({absl::StrCat("`", field, "` ", fault)},
                         absl::StatusCode::kInvalidArgument, Reason::kInvalidField);
}

}  // namespace imageddpo

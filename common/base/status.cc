#include "common/base/status.h"

#include <cerrno>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

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

}  // namespace imageddpo

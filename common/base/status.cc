#include "common/base/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr char kPausesJob[] = "imageddpo/pauses_job";  // Type of the payload.

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

absl::Status PausesJob(absl::Status status, absl::string_view waiting_for) {
  status.SetPayload(kPausesJob, absl::Cord(waiting_for));
  return status;
}

std::optional<std::string> PausesJobFor(const absl::Status& status) {
  const auto payload = status.GetPayload(kPausesJob);
  if (!payload.has_value()) return std::nullopt;
  return std::string(*payload);
}

}  // namespace imageddpo

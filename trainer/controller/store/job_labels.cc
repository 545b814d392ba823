#include "trainer/controller/store/job_labels.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"

namespace imageddpo {
namespace {

constexpr int32_t kMostPriority = 1000;
constexpr double kMostSeconds = 86'400'000;
constexpr size_t kMostLabels = 32;
constexpr size_t kMostKeyBytes = 64;
constexpr size_t kMostValueBytes = 256;

bool IsLabelKey(std::string_view key) {
  return !key.empty() && key.size() <= kMostKeyBytes &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

}  // namespace

absl::Status CheckPriority(int32_t priority) {
  if (priority >= -kMostPriority && priority <= kMostPriority) return absl::OkStatus();
  return InvalidField("priority", absl::StrCat("is ", priority, "; give one from ", -kMostPriority,
                                               " to ", kMostPriority));
}

absl::Status CheckMaxSeconds(double max_seconds) {
  if (max_seconds >= 0 && max_seconds <= kMostSeconds) return absl::OkStatus();
  return InvalidField(
      "max_seconds",
      absl::StrCat("is ", max_seconds, "; give one from 0 (no limit) to ", kMostSeconds));
}

absl::Status SetLabels(const google::protobuf::Map<std::string, std::string>& labels,
                       v1::Job* job) {
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      return InvalidField("labels",
                          absl::StrCat("has the key '", key, "': give 1 to ", kMostKeyBytes,
                                       " letters, digits, `.`, `_` or `-`"));
    }
    if (value.size() > kMostValueBytes) {
      return InvalidField(
          absl::StrCat("labels.", key),
          absl::StrCat("has ", value.size(), " bytes; at most ", kMostValueBytes, " are allowed"));
    }
    if (value.empty()) {
      job->mutable_labels()->erase(key);
    } else {
      (*job->mutable_labels())[key] = value;
    }
  }
  if (job->labels().size() <= kMostLabels) return absl::OkStatus();
  return InvalidField("labels", absl::StrCat("would be ", job->labels().size(), "; at most ",
                                             kMostLabels, " are allowed"));
}

}  // namespace imageddpo

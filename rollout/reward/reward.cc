#include "rollout/reward/reward.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/suggest.h"

namespace imageddpo {
namespace {

absl::Status CheckOneOf(const std::string& setting, const std::string& word,
                        const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), word) != choices.end()) return absl::OkStatus();
  const std::optional<std::string> closest = ClosestMatch(word, choices);
  return absl::InvalidArgumentError(absl::StrCat(
      setting, ": '", word, "' is unknown", closest ? "; did you mean '" : "", closest.value_or(""),
      closest ? "'?" : "", " It must be one of ", absl::StrJoin(choices, ", ")));
}

}  // namespace

absl::Status RewardConfig::Validate() const {
  IMAGEDDPO_RETURN_IF_ERROR(CheckOneOf("rewards.type", type, {"classifier", "jpeg"}));
  if (!std::isfinite(weight)) {
    return absl::InvalidArgumentError("rewards.weight must be a finite number");
  }
  if (clamp && !(*clamp >= 0 && std::isfinite(*clamp))) {
    return absl::InvalidArgumentError(
        absl::StrCat("rewards.clamp is ", *clamp, "; it must be positive, or 0 for no limit"));
  }
  if (type == "classifier") {
    if (model.empty()) {
      return absl::InvalidArgumentError(
          "rewards.model is missing: a classifier reward needs the path of a TorchScript file");
    }
    return CheckOneOf("rewards.measure", measure,
                      {"logit_change", "margin_change", "logit_max_margin"});
  }
  if (!model.empty()) {
    return absl::InvalidArgumentError("rewards.model is set, but the jpeg reward uses no model");
  }
  if (jpeg_quality < 1 || jpeg_quality > 100) {
    return absl::InvalidArgumentError(
        absl::StrCat("rewards.jpeg_quality is ", jpeg_quality, "; it must be between 1 and 100"));
  }
  return CheckOneOf("rewards.measure", measure, {"compressibility", "incompressibility"});
}

}  // namespace imageddpo

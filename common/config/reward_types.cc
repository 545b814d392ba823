#include "common/config/reward_types.h"

#include <algorithm>

namespace imageddpo {
namespace {

constexpr RewardMeasureInfo kClassifierMeasures[] = {
    {RewardMeasure::kLogitChange, "logit_change", 10.0},
    {RewardMeasure::kMarginChange, "margin_change", 10.0},
    {RewardMeasure::kLogitMaxMargin, "logit_max_margin", 0.0},
};

constexpr RewardMeasureInfo kJpegMeasures[] = {
    {RewardMeasure::kCompressibility, "compressibility", 0.0},
    {RewardMeasure::kIncompressibility, "incompressibility", 0.0},
};

constexpr RewardTypeInfo kTypes[] = {
    {.type = RewardType::kClassifier,
     .name = "classifier",
     .measures = kClassifierMeasures,
     .has_model = true},
    {.type = RewardType::kJpeg,
     .name = "jpeg",
     .measures = kJpegMeasures,
     .has_jpeg_quality = true},
    {.type = RewardType::kService, .name = "service", .has_service = true},
};

template <typename Info>
const Info* Find(absl::Span<const Info> infos, absl::string_view name) {
  const auto found =
      std::find_if(infos.begin(), infos.end(), [&](const Info& info) { return info.name == name; });
  return found == infos.end() ? nullptr : &*found;
}

}  // namespace

absl::Span<const RewardTypeInfo> RewardTypes() { return kTypes; }

const RewardTypeInfo* FindRewardType(absl::string_view name) { return Find(RewardTypes(), name); }

const RewardMeasureInfo* FindRewardMeasure(const RewardTypeInfo& type, absl::string_view name) {
  return Find(type.measures, name);
}

}  // namespace imageddpo

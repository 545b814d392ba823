#include "common/config/reward_types.h"

#include <algorithm>
#include <iterator>

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

constexpr RewardMeasureInfo kImageStatMeasures[] = {
    {RewardMeasure::kBrightness, "brightness", 0.0},
    {RewardMeasure::kContrast, "contrast", 0.0},
    {RewardMeasure::kSaturation, "saturation", 0.0},
    {RewardMeasure::kEdgeEnergy, "edge_energy", 0.0},
    {RewardMeasure::kColourEntropy, "colour_entropy", 0.0},
};

constexpr RewardTypeInfo kTypes[] = {
    {.type = RewardType::kClassifier,
     .name = "classifier",
     .measures = kClassifierMeasures,
     .has_model = true,
     .has_item_errors = true},
    {.type = RewardType::kJpeg,
     .name = "jpeg",
     .measures = kJpegMeasures,
     .has_jpeg_quality = true},
    {.type = RewardType::kService, .name = "service", .has_service = true, .has_item_errors = true},
    {.type = RewardType::kL1, .name = "l1", .has_reference = true},
    {.type = RewardType::kL2, .name = "l2", .has_reference = true},
    {.type = RewardType::kPsnr, .name = "psnr", .has_reference = true},
    {.type = RewardType::kSsim, .name = "ssim", .has_reference = true},
    {.type = RewardType::kImageStat, .name = "image_stat", .measures = kImageStatMeasures},
    {.type = RewardType::kTorchScript, .name = "torchscript", .has_model = true},
};

template <typename Info>
const Info* Find(absl::Span<const Info> infos, absl::string_view name) {
  const auto found =
      std::find_if(infos.begin(), infos.end(), [&](const Info& info) { return info.name == name; });
  return found == infos.end() ? nullptr : &*found;
}

}  // namespace

absl::Span<const RewardTypeInfo> RewardTypes() { return kTypes; }

absl::string_view NameOf(RewardType type) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [type](const RewardTypeInfo& info) { return info.type == type; });
  return found == std::end(kTypes) ? "" : found->name;
}

const RewardTypeInfo* FindRewardType(absl::string_view name) { return Find(RewardTypes(), name); }

const RewardMeasureInfo* FindRewardMeasure(const RewardTypeInfo& type, absl::string_view name) {
  return Find(type.measures, name);
}

}  // namespace imageddpo

#include "common/config/reward_types.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

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

constexpr absl::string_view kClassifierParts[] = {"correct", "correct_input", "logit"};
constexpr absl::string_view kJpegParts[] = {"bytes"};

constexpr RewardTypeInfo kTypes[] = {
    {.type = RewardType::kClassifier,
     .name = "classifier",
     .measures = kClassifierMeasures,
     .parts = kClassifierParts,
     .has_model = true,
     .has_item_errors = true},
    {.type = RewardType::kJpeg,
     .name = "jpeg",
     .measures = kJpegMeasures,
     .parts = kJpegParts,
     .has_jpeg_quality = true},
    {.type = RewardType::kService,
     .name = "service",
     .has_own_parts = true,
     .has_service = true,
     .has_item_errors = true},
    {.type = RewardType::kL1, .name = "l1", .has_reference = true},
    {.type = RewardType::kL2, .name = "l2", .has_reference = true},
    {.type = RewardType::kPsnr, .name = "psnr", .has_reference = true},
    {.type = RewardType::kSsim, .name = "ssim", .has_reference = true},
    {.type = RewardType::kImageStat, .name = "image_stat", .measures = kImageStatMeasures},
    {.type = RewardType::kKlToBase, .name = "kl_to_base"},
    {.type = RewardType::kTorchScript,
     .name = "torchscript",
     .has_own_parts = true,
     .has_model = true},
};

template <typename Info>
const Info* Find(absl::Span<const Info> infos, absl::string_view name) {
  const auto found =
      std::find_if(infos.begin(), infos.end(), [&](const Info& info) { return info.name == name; });
  return found == infos.end() ? nullptr : &*found;
}

}  // namespace

bool IsBelowSsimWindow(const v1::DataSpec& data) {
  const bool is_square = !data.has_width() && !data.has_height();
  const int64_t side = is_square ? data.resolution() : std::min(data.width(), data.height());
  return side > 0 && side < kSsimWindow;
}

absl::Span<const RewardTypeInfo> RewardTypes() { return kTypes; }

absl::string_view NameOf(RewardType type) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [type](const RewardTypeInfo& info) { return info.type == type; });
  return found == std::end(kTypes) ? "" : found->name;
}

std::vector<std::string> RewardNames(const v1::JobSpec& job) {
  std::vector<std::string> names;
  std::set<std::string> used;
  for (const v1::RewardSpec& reward : job.rewards()) {
    const std::string& asked = reward.name().empty() ? reward.type() : reward.name();
    std::string name = asked;
    for (int use = 2; !used.insert(name).second; ++use) name = absl::StrCat(asked, "_", use);
    names.push_back(std::move(name));
  }
  return names;
}

std::vector<std::string> EvalMeasures(const v1::JobSpec& job) {
  std::vector<std::string> measures = {"reward"};
  const std::vector<std::string> names = RewardNames(job);
  for (size_t i = 0; i < names.size(); ++i) {
    const v1::RewardSpec& reward = job.rewards(static_cast<int>(i));
    measures.push_back(absl::StrCat(names[i], ".value"));
    if (FindChoice(kOnNan, reward.on_nan()) == OnNan::kDrop) {
      measures.push_back(absl::StrCat(names[i], ".dropped"));
    }
    const RewardTypeInfo* const type = FindRewardType(reward.type());
    if (type == nullptr) continue;
    for (const absl::string_view part : type->parts) {
      measures.push_back(absl::StrCat(names[i], ".", part));
    }
  }
  return measures;
}

const RewardTypeInfo* FindRewardType(absl::string_view name) { return Find(RewardTypes(), name); }

const RewardMeasureInfo* FindRewardMeasure(const RewardTypeInfo& type, absl::string_view name) {
  return Find(type.measures, name);
}

}  // namespace imageddpo

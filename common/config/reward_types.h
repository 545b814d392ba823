#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/config/choices.h"
#include "common/config/reward_service.h"
#include "imageddpo/v1/job.pb.h"

namespace imageddpo {

/// The types of rewards that there are; rollout/reward has a class for each.
enum class RewardType {
  kClassifier,
  kJpeg,
  kService,
  kL1,
  kL2,
  kPsnr,
  kSsim,
  kImageStat,
  kKlToBase,
  kTorchScript,
};

/// Pixels each way of the window of `type: ssim`. Smaller images have no value: scikit-image
/// refuses them too, and a smaller window would be another measure.
inline constexpr int kSsimWindow = 11;
/// Whether a job makes its images smaller than that. False where the model's own size decides: it
/// is checked when the job starts.
bool IsBelowSsimWindow(const v1::DataSpec& data);

/// What a reward measures; each type has measures of its own.
enum class RewardMeasure {
  kNone,               ///< Of a type that has nothing to choose from.
  kLogitChange,        ///< Logit of the label: generated image − input image.
  kMarginChange,       ///< Margin (logit of the label − largest other): generated − input.
  kLogitMaxMargin,     ///< Margin of the generated image.
  kCompressibility,    ///< −kB of the JPEG file.
  kIncompressibility,  ///< +kB of the JPEG file.
  kBrightness,  ///< This and the next: of the generated image, rollout/reward/image_measures.h.
  kContrast,
  kSaturation,
  kEdgeEnergy,
  kColourEntropy,
};

/// `rewards.reference`: the image that a generated one is compared with.
enum class RewardReference { kInput, kTarget };
inline constexpr Choice<RewardReference> kRewardReferences[] = {
    {RewardReference::kInput, "input"}, {RewardReference::kTarget, "target"}};

struct RewardMeasureInfo {
  RewardMeasure measure;
  absl::string_view name;  ///< In job files.
  double default_clamp;    ///< Of `rewards.clamp`; 0: no limit.
};

/// A type's name in job files, and which settings go with it. A setting that does not go with the
/// type is refused.
struct RewardTypeInfo {
  RewardType type;
  absl::string_view name;
  absl::Span<const RewardMeasureInfo> measures = {};  ///< Empty: `measure` must not be given.
  absl::Span<const absl::string_view> parts = {};     ///< In metrics, beside the value.
  bool has_own_parts = false;  ///< Its model or service names its parts: known once it has scored.
  bool has_model = false;      ///< `model` is required.
  bool has_jpeg_quality = false;
  bool has_reference = false;
  bool has_service = false;      ///< Has the settings of reward_service.h.
  bool has_item_errors = false;  ///< May fail for single images of a batch.

  /// Whether `on_error` may be this.
  bool Allows(OnRewardError policy) const {
    switch (policy) {
      case OnRewardError::kRetry:
        return has_service;
      case OnRewardError::kFail:
        return true;
      case OnRewardError::kDrop:
        return has_item_errors;
    }
    return false;
  }
};

/// One entry of a job's `rewards`, judged. What a reward measures of an image becomes its value:
///
///   value = clamp((measure − offset) · scale, ± limit())
///
/// and the reward of the image is the sum of weight · value over the entries that are not held out.
/// `normalize` and `warmup_epochs` change what a trainer makes of the values, see
/// trainer/algo/reward_combination.h.
struct RewardConfig {
  RewardType type = RewardType::kJpeg;
  RewardMeasure measure = RewardMeasure::kCompressibility;
  std::string name = "";  ///< in metrics; unique in a job: as given, or the type's; then with "_2"
  std::string model =
      "";               ///< classifier and torchscript: path of the TorchScript file, to be opened
  double weight = 1.0;  ///< factor in the weighted sum; finite
  double offset = 0;    ///< finite
  double scale = 1.0;   ///< finite, not 0
  double clamp = 0;     ///< values are limited to ±clamp; 0: no limit
  bool normalize = false;     ///< values are divided by their running spread
  int64_t warmup_epochs = 0;  ///< the weight grows from 0 over this many epochs
  OnNan on_nan = OnNan::kFail;
  OnRewardError on_error = OnRewardError::kFail;
  double max_dropped = 0.1;  ///< of either kDrop: largest share of an epoch's samples; 0 to below 1
  bool held_out = false;     ///< reported, and no part of the sum
  int jpeg_quality = 95;     ///< jpeg: 1 to 100
  RewardReference reference = RewardReference::kInput;  ///< l1, l2, psnr and ssim
  RewardServiceConfig service = {};                     ///< service

  /// The limit of values: `clamp`, or infinity.
  double limit() const { return clamp > 0 ? clamp : std::numeric_limits<double>::infinity(); }
  /// The value of a measure; NaN stays.
  double ValueOf(double measured) const {
    return std::clamp((measured - offset) * scale, -limit(), limit());
  }
  /// Whether some images without a finite value are left out instead of ending the job.
  bool drops() const { return on_nan == OnNan::kDrop || on_error == OnRewardError::kDrop; }
  /// Whether what is trained on depends on this reward.
  bool is_trained() const { return !held_out && weight != 0; }
};

/// The table of all types. Job files are checked and completed by it, and rewards are made by it,
/// so nothing else knows the names.
absl::Span<const RewardTypeInfo> RewardTypes();

/// A type's name in job files.
absl::string_view NameOf(RewardType type);

/// The names of a job's rewards in metrics, in their order: as given, or the type's; then with
/// "_2".
std::vector<std::string> RewardNames(const v1::JobSpec& job);

/// The names of an evaluation's numbers, as far as the settings tell: "reward", then the value and
/// the parts of each reward, as "classifier.correct".
std::vector<std::string> EvalMeasures(const v1::JobSpec& job);

/// Null for an unknown name.
const RewardTypeInfo* FindRewardType(absl::string_view name);
const RewardMeasureInfo* FindRewardMeasure(const RewardTypeInfo& type, absl::string_view name);

}  // namespace imageddpo

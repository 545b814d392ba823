#pragma once

#include <limits>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/config/reward_service.h"

namespace imageddpo {

/// The types of rewards that there are; rollout/reward has a class for each.
enum class RewardType { kClassifier, kJpeg, kService };

/// What a reward measures; each type has measures of its own.
enum class RewardMeasure {
  kNone,               ///< Of a type that has nothing to choose from.
  kLogitChange,        ///< Logit of the label: generated image − input image.
  kMarginChange,       ///< Margin (logit of the label − largest other): generated − input.
  kLogitMaxMargin,     ///< Margin of the generated image.
  kCompressibility,    ///< −kB of the JPEG file.
  kIncompressibility,  ///< +kB of the JPEG file.
};

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
  bool has_model = false;                             ///< `model` is required.
  bool has_jpeg_quality = false;
  bool has_service = false;  ///< Has the settings of reward_service.h.
};

/// One entry of a job's `rewards`, judged.
struct RewardConfig {
  RewardType type = RewardType::kJpeg;
  RewardMeasure measure = RewardMeasure::kCompressibility;
  std::string model;                 ///< classifier: path of the TorchScript file, to be opened
  double weight = 1.0;               ///< factor in the weighted sum; finite
  double clamp = 0;                  ///< values are limited to ±clamp; 0: no limit
  int jpeg_quality = 95;             ///< jpeg: 1 to 100
  std::string name = "";             ///< In metrics: [a-z0-9_]+; empty: the type's
  RewardServiceConfig service = {};  ///< service

  /// The limit of values: `clamp`, or infinity.
  double limit() const { return clamp > 0 ? clamp : std::numeric_limits<double>::infinity(); }
};

/// The table of all types. Job files are checked and completed by it, and rewards are made by it,
/// so nothing else knows the names.
absl::Span<const RewardTypeInfo> RewardTypes();

/// Null for an unknown name.
const RewardTypeInfo* FindRewardType(absl::string_view name);
const RewardMeasureInfo* FindRewardMeasure(const RewardTypeInfo& type, absl::string_view name);

}  // namespace imageddpo

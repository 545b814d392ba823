#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/picture_size.h"

namespace imageddpo {

/// One value of a setting that takes a choice, with the word for it in job files. The tables below
/// (and those in reward_types.h) are the only place where these words stand.
template <typename Enum>
struct Choice {
  Enum value;
  std::string_view word;
};

/// model.precision: of the model call only.
enum class Precision { kFp32, kBf16, kFp16 };
inline constexpr Choice<Precision> kPrecisions[] = {
    {Precision::kFp32, "fp32"}, {Precision::kBf16, "bf16"}, {Precision::kFp16, "fp16"}};

/// lora.unsupported_modules: what becomes of a LoRA file's modules for layers that are not trained.
enum class UnsupportedModules { kRefuse, kSkip };
inline constexpr Choice<UnsupportedModules> kUnsupportedModules[] = {
    {UnsupportedModules::kRefuse, "refuse"}, {UnsupportedModules::kSkip, "skip"}};

/// train.optimizer
enum class OptimizerKind { kAdamW, kAdamW8bit };
inline constexpr Choice<OptimizerKind> kOptimizers[] = {{OptimizerKind::kAdamW, "adamw"},
                                                        {OptimizerKind::kAdamW8bit, "adamw8bit"}};

/// train.weight_decay_to: where weight decay pulls the LoRA.
enum class DecayTarget { kZero, kInitial };
inline constexpr Choice<DecayTarget> kDecayTargets[] = {{DecayTarget::kZero, "zero"},
                                                        {DecayTarget::kInitial, "initial"}};

/// train.update
enum class UpdateKind { kAuto, kReplay, kSinglePass };
inline constexpr Choice<UpdateKind> kUpdates[] = {{UpdateKind::kAuto, "auto"},
                                                  {UpdateKind::kReplay, "replay"},
                                                  {UpdateKind::kSinglePass, "single_pass"}};

/// train.objective: what is learned from.
enum class Objective { kDdpo, kSft };
inline constexpr Choice<Objective> kObjectives[] = {{Objective::kDdpo, "ddpo"},
                                                    {Objective::kSft, "sft"}};

/// train.trust_region: what keeps an update near the policy that drew the samples.
enum class TrustRegion { kRatio, kKl };
inline constexpr Choice<TrustRegion> kTrustRegions[] = {{TrustRegion::kRatio, "ratio"},
                                                        {TrustRegion::kKl, "kl"}};

/// train.lr_schedule
enum class LearningRateKind { kConstant, kCosine };
inline constexpr Choice<LearningRateKind> kLearningRates[] = {
    {LearningRateKind::kConstant, "constant"}, {LearningRateKind::kCosine, "cosine"}};

/// train.reduce: how trainers add up their gradients.
enum class ReduceKind { kExact, kFast };
inline constexpr Choice<ReduceKind> kReduces[] = {{ReduceKind::kExact, "exact"},
                                                  {ReduceKind::kFast, "fast"}};

/// advantage.mode
enum class AdvantageMode { kGlobal, kPerKey, kGroup };
inline constexpr Choice<AdvantageMode> kAdvantageModes[] = {{AdvantageMode::kGlobal, "global"},
                                                            {AdvantageMode::kPerKey, "per_key"},
                                                            {AdvantageMode::kGroup, "group"}};

/// advantage.std_of: whose standard deviation divides the advantages of a group.
enum class StdOf { kGroup, kGlobal, kNone };
inline constexpr Choice<StdOf> kStdsOf[] = {
    {StdOf::kGroup, "group"}, {StdOf::kGlobal, "global"}, {StdOf::kNone, "none"}};

/// advantage.zero_std: what becomes of the samples of a group whose rewards are all equal.
enum class ZeroStd { kKeep, kDrop, kResample };
inline constexpr Choice<ZeroStd> kZeroStds[] = {
    {ZeroStd::kKeep, "keep"}, {ZeroStd::kDrop, "drop"}, {ZeroStd::kResample, "resample"}};

/// advantage.stat_key: what the rewards with common statistics have in common.
enum class StatKey { kImage, kPrompt, kPair };
inline constexpr Choice<StatKey> kStatKeys[] = {
    {StatKey::kImage, "image"}, {StatKey::kPrompt, "prompt"}, {StatKey::kPair, "pair"}};

/// data.layout
enum class DataLayout { kAuto, kFlat };
inline constexpr Choice<DataLayout> kDataLayouts[] = {{DataLayout::kAuto, "auto"},
                                                      {DataLayout::kFlat, "flat"}};

/// data.on_error: what becomes of images that cannot be read.
enum class OnDataError { kFail, kSkip };
inline constexpr Choice<OnDataError> kOnDataErrors[] = {{OnDataError::kFail, "fail"},
                                                        {OnDataError::kSkip, "skip"}};

/// advantage.combine: whether rewards are added up and then normalised, or the other way round.
enum class Combination { kSum, kPerReward };
inline constexpr Choice<Combination> kCombinations[] = {{Combination::kSum, "sum"},
                                                        {Combination::kPerReward, "per_reward"}};

/// checkpoint.best_mode: which number of an evaluation is the best.
enum class BestMode { kMax, kMin };
inline constexpr Choice<BestMode> kBestModes[] = {{BestMode::kMax, "max"}, {BestMode::kMin, "min"}};

/// guards: what becomes of a job when a guard sees something.
enum class GuardPolicy { kOff, kWarn, kSkip, kRollback, kPause, kFail };
inline constexpr Choice<GuardPolicy> kGuardPolicies[] = {{GuardPolicy::kOff, "off"},
                                                         {GuardPolicy::kWarn, "warn"},
                                                         {GuardPolicy::kRollback, "rollback"},
                                                         {GuardPolicy::kPause, "pause"},
                                                         {GuardPolicy::kFail, "fail"}};
/// guards.non_finite
inline constexpr Choice<GuardPolicy> kNonFinitePolicies[] = {{GuardPolicy::kSkip, "skip"},
                                                             {GuardPolicy::kRollback, "rollback"},
                                                             {GuardPolicy::kPause, "pause"},
                                                             {GuardPolicy::kFail, "fail"}};

/// rewards.on_nan: what happens to a sample whose value of a reward is not finite.
enum class OnNan { kFail, kDrop };
inline constexpr Choice<OnNan> kOnNan[] = {{OnNan::kFail, "fail"}, {OnNan::kDrop, "drop"}};

/// data.resize
inline constexpr Choice<ResizeMode> kResizes[] = {
    {ResizeMode::kCrop, "crop"}, {ResizeMode::kPad, "pad"}, {ResizeMode::kStretch, "stretch"}};

/// rewards.on_error: what happens to a sample that a reward cannot score.
enum class OnRewardError { kRetry, kFail, kDrop };
inline constexpr Choice<OnRewardError> kOnRewardErrors[] = {{OnRewardError::kRetry, "retry"},
                                                            {OnRewardError::kFail, "fail"},
                                                            {OnRewardError::kDrop, "drop"}};

/// data.corrupt.kind: those of ImageNet-C except frost, which needs photographs.
enum class CorruptKind {
  kGaussianNoise,
  kShotNoise,
  kImpulseNoise,
  kDefocusBlur,
  kGlassBlur,
  kMotionBlur,
  kZoomBlur,
  kSnow,
  kFog,
  kBrightness,
  kContrast,
  kElasticTransform,
  kPixelate,
  kJpegCompression
};
inline constexpr Choice<CorruptKind> kCorruptKinds[] = {
    {CorruptKind::kGaussianNoise, "gaussian_noise"},
    {CorruptKind::kShotNoise, "shot_noise"},
    {CorruptKind::kImpulseNoise, "impulse_noise"},
    {CorruptKind::kDefocusBlur, "defocus_blur"},
    {CorruptKind::kGlassBlur, "glass_blur"},
    {CorruptKind::kMotionBlur, "motion_blur"},
    {CorruptKind::kZoomBlur, "zoom_blur"},
    {CorruptKind::kSnow, "snow"},
    {CorruptKind::kFog, "fog"},
    {CorruptKind::kBrightness, "brightness"},
    {CorruptKind::kContrast, "contrast"},
    {CorruptKind::kElasticTransform, "elastic_transform"},
    {CorruptKind::kPixelate, "pixelate"},
    {CorruptKind::kJpegCompression, "jpeg_compression"}};

/// The value that a word means; nullopt where the table does not have it.
template <typename Enum, size_t N>
std::optional<Enum> FindChoice(const Choice<Enum> (&choices)[N], std::string_view word) {
  for (const Choice<Enum>& choice : choices) {
    if (choice.word == word) return choice.value;
  }
  return std::nullopt;
}

template <typename Enum, size_t N>
std::string WordOf(const Choice<Enum> (&choices)[N], Enum value) {
  for (const Choice<Enum>& choice : choices) {
    if (choice.value == value) return std::string(choice.word);
  }
  return "";
}

/// All words of a table, for messages.
template <typename Enum, size_t N>
std::vector<std::string> Words(const Choice<Enum> (&choices)[N]) {
  std::vector<std::string> words;
  for (const Choice<Enum>& choice : choices) words.emplace_back(choice.word);
  return words;
}

}  // namespace imageddpo

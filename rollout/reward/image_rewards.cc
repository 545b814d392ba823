#include "rollout/reward/image_rewards.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "rollout/reward/image_measures.h"

namespace imageddpo {
namespace {

using Distance = double (*)(const at::Tensor&, const at::Tensor&);
using Stat = double (*)(const at::Tensor&);

Distance DistanceOf(RewardType type) {
  switch (type) {
    case RewardType::kL1:
      return L1Distance;
    case RewardType::kL2:
      return L2Distance;
    case RewardType::kPsnr:
      return Psnr;
    default:
      return Ssim;
  }
}

Stat StatOf(RewardMeasure measure) {
  switch (measure) {
    case RewardMeasure::kBrightness:
      return Brightness;
    case RewardMeasure::kContrast:
      return Contrast;
    case RewardMeasure::kSaturation:
      return Saturation;
    case RewardMeasure::kEdgeEnergy:
      return EdgeEnergy;
    default:
      return ColourEntropy;
  }
}

absl::Status CheckSide(const std::string& what, int least, int width, int height) {
  if (std::min(width, height) >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " needs images of at least ", least, "x",
                                                 least, " pixels; `data.resolution` makes them ",
                                                 width, "x", height));
}

}  // namespace

std::string DistanceReward::name() const { return std::string(NameOf(config_.type)); }

RewardNeeds DistanceReward::wants() const {
  return {.targets = config_.reference == RewardReference::kTarget};
}

std::unique_ptr<PendingReward> DistanceReward::Start(std::shared_ptr<const RewardBatch> batch) {
  return ComputeInWait(
      [batch = std::move(batch), distance = DistanceOf(config_.type), to_target = wants().targets] {
        const at::Tensor& references_BCHW = to_target ? batch->targets_BCHW : batch->inputs_BCHW;
        RewardOutput output;
        for (int64_t i = 0; i < batch->size(); ++i) {
          output.values_B.emplace_back(distance(batch->generated_BCHW[i], references_BCHW[i]));
        }
        return output;
      });
}

absl::Status DistanceReward::CheckDataset(const Dataset& dataset, int width, int height) {
  if (wants().targets) IMAGEDDPO_RETURN_IF_ERROR(CheckTargets(dataset));
  return config_.type == RewardType::kSsim ? CheckSide("ssim", kSsimWindow, width, height)
                                           : absl::OkStatus();
}

std::unique_ptr<PendingReward> ImageStatReward::Start(std::shared_ptr<const RewardBatch> batch) {
  return ComputeInWait([batch = std::move(batch), stat = StatOf(config_.measure)] {
    RewardOutput output;
    for (int64_t i = 0; i < batch->size(); ++i) {
      output.values_B.emplace_back(stat(batch->generated_BCHW[i]));
    }
    return output;
  });
}

absl::Status ImageStatReward::CheckDataset(const Dataset&, int width, int height) {
  return config_.measure == RewardMeasure::kEdgeEnergy
             ? CheckSide("edge_energy", kSobelWindow, width, height)
             : absl::OkStatus();
}

}  // namespace imageddpo

#include "rollout/reward/jpeg_reward.h"

#include <limits>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"

namespace imageddpo {
namespace {

constexpr double kBytesPerKilobyte = 1000.0;

absl::StatusOr<RewardOutput> ScoreSizes(const RewardBatch& batch, const RewardConfig& config) {
  const double sign = config.measure == RewardMeasure::kIncompressibility ? 1.0 : -1.0;
  const at::Tensor images_BCHW = batch.generated_BCHW.to(at::kCPU);
  RewardOutput output;
  std::vector<double>& bytes_B = output.parts["bytes"];
  for (int64_t i = 0; i < batch.size(); ++i) {
    const at::Tensor image_CHW = images_BCHW.select(0, i);
    double size_bytes = std::numeric_limits<double>::quiet_NaN();
    if (image_CHW.isfinite().all().item<bool>()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::string jpeg,
                                 EncodeJpeg(TensorToImage(image_CHW), config.jpeg_quality));
      size_bytes = static_cast<double>(jpeg.size());
    }
    bytes_B.push_back(size_bytes);
    output.values_B.emplace_back(sign * size_bytes / kBytesPerKilobyte);
  }
  return output;
}

}  // namespace

std::unique_ptr<PendingReward> JpegReward::Start(std::shared_ptr<const RewardBatch> batch) {
  return ComputeInWait(
      [batch = std::move(batch), config = config_] { return ScoreSizes(*batch, config); });
}

absl::Status JpegReward::CheckDataset(const Dataset&, int, int) { return absl::OkStatus(); }

}  // namespace imageddpo

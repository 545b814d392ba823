#include "rollout/reward/jpeg_reward.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>

#include "common/base/status.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"

namespace imageddpo {
namespace {

constexpr double kBytesPerKilobyte = 1000.0;

}  // namespace

JpegReward::JpegReward(const RewardConfig& config)
    : sign_(config.measure == "incompressibility" ? 1.0 : -1.0),
      clamp_(config.clamp.value_or(0) > 0 ? *config.clamp
                                          : std::numeric_limits<double>::infinity()),
      quality_(config.jpeg_quality) {}

absl::StatusOr<RewardOutput> JpegReward::Score(const RewardInputs& inputs) {
  const at::Tensor images_BCHW = inputs.generated_BCHW.to(at::kCPU);
  const int64_t num_items = images_BCHW.size(0);
  RewardOutput output;
  output.values_B = at::empty({num_items}, at::kDouble);
  at::Tensor& bytes = output.parts["bytes"] = at::empty({num_items}, at::kDouble);
  for (int64_t i = 0; i < num_items; ++i) {
    const at::Tensor image_CHW = images_BCHW.select(0, i);
    double size_bytes = std::numeric_limits<double>::quiet_NaN();
    // An image with NaN in it has no size: the caller decides what to do with the item.
    if (image_CHW.isfinite().all().item<bool>()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::string jpeg,
                                 EncodeJpeg(TensorToImage(image_CHW), quality_));
      size_bytes = static_cast<double>(jpeg.size());
    }
    bytes.data_ptr<double>()[i] = size_bytes;
    output.values_B.data_ptr<double>()[i] =
        std::clamp(sign_ * size_bytes / kBytesPerKilobyte, -clamp_, clamp_);
  }
  return output;
}

absl::Status JpegReward::CheckDataset(const Dataset&, int, int) { return absl::OkStatus(); }

}  // namespace imageddpo

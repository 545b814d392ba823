#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rollout/data/dataset.h"

// Shapes: B samples, C = 3 channels, H rows, W columns.
namespace imageddpo {

/// The generated images and what they were made from; everything has length B and the same order.
struct RewardInputs {
  at::Tensor generated_BCHW;  ///< [B,3,H,W] float32 in [0,1], any device
  at::Tensor inputs_BCHW;     ///< [B,3,H,W] float32 in [0,1]: the images img2img started from
  std::vector<std::string> prompts;      ///< as used, UTF-8
  std::vector<const Example*> examples;  ///< not null; outlive the call
};

struct RewardOutput {
  at::Tensor
      values_B;  ///< [B] float64 on the CPU; NaN or infinite where an item could not be scored
  std::map<std::string, at::Tensor>
      parts;  ///< name → [B] float64 on the CPU: "correct", "logit", "bytes", …
};

/// One term of a job's reward. Thread-compatible: calls on one object are serialised by the caller.
class Reward {
 public:
  virtual ~Reward() = default;

  virtual std::string name() const = 0;  ///< "classifier", "jpeg": [a-z0-9_]+

  /// Deterministic in its arguments. An error is about the whole batch and names what is wrong with
  /// it.
  virtual absl::StatusOr<RewardOutput> Score(const RewardInputs& inputs) = 0;

  /// Called once at the start of a job, so that a dataset that cannot be scored is refused there
  /// and not hours later: every example has the label the reward needs, and images of width ×
  /// height are accepted. Names the first example that does not fit.
  virtual absl::Status CheckDataset(const Dataset& dataset, int width, int height) = 0;
};

/// One entry of a job's `rewards`.
struct RewardConfig {
  std::string type;   ///< "classifier" or "jpeg"
  std::string model;  ///< classifier: path of the TorchScript file
  /// classifier: logit_change | margin_change | logit_max_margin;
  /// jpeg: compressibility | incompressibility
  std::string measure;
  double weight = 1.0;  ///< factor in the weighted sum; finite
  /// Values are limited to ±clamp; 0: no limit. Absent: 10 for logit_change and margin_change, no
  /// limit for the others.
  std::optional<double> clamp;
  int jpeg_quality = 95;  ///< jpeg: 1 to 100

  /// Checks everything but the model file; messages name the setting, "rewards.measure" and the
  /// like.
  absl::Status Validate() const;
};

}  // namespace imageddpo

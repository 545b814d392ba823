#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// One measurement of a stage: this much work took this many seconds.
struct CostPoint {
  double work = 0;
  double seconds = 0;
};

/// Seconds of a stage as a function of its work: linear between the measured points. Below the
/// first point, the line through the first two is extended (with a single point, or if that line
/// would reach 0 seconds at a positive amount of work, seconds are proportional to work). Beyond
/// the last point, seconds are proportional to work.
class CostCurve {
 public:
  CostCurve() = default;
  /// @param points  any order; points of equal work are averaged.
  explicit CostCurve(std::vector<CostPoint> points);

  void Scale(double factor);          ///< Multiplies all seconds.
  double Seconds(double work) const;  ///< 0 for no work, and for a curve without points.
  const std::vector<CostPoint>& points() const { return points_; }

 private:
  std::vector<CostPoint> points_;  // By work, ascending.
};

/// Cost of transferring bytes between two ranks.
struct LinkCosts {
  double latency_seconds = 200e-6;  ///< From send to receipt of a small message.
  double message_seconds = 20e-6;   ///< Added by each further message, on either side.
  double bytes_per_second = 1e9;    ///< Of one rank, each way.
  bool measured = false;            ///< False: these are assumptions.

  double Seconds(double messages, double bytes) const {
    return messages > 0 ? latency_seconds + messages * message_seconds + bytes / bytes_per_second
                        : 0;
  }
};

/// Measured costs of one device: written by `imageddpo-trace costs`, read by `imageddpo plan`.
/// Where a curve says FLOPs, its work is counted in floating point operations of forward passes
/// (PassCount::flops × rows).
struct Costs {
  std::string device, precision, model, rewards;
  int num_threads = 0;
  CostCurve sample_step;    ///< A DDIM step without gradients; FLOPs.
  CostCurve gradient_step;  ///< The same with gradients by sample (single pass); FLOPs.
  CostCurve replay_step;    ///< Forward and backward of an update; FLOPs.
  CostCurve encode;         ///< VAE, image to posterior; FLOPs.
  CostCurve decode;         ///< VAE, latents to images; FLOPs.
  CostCurve text;           ///< Text encoder; FLOPs.
  CostCurve draw;           ///< Noise and inputs of a micro-batch; values of noise.
  CostCurve reward;         ///< All rewards of a micro-batch; values of its images.
  CostCurve optimizer;      ///< Clipping and one AdamW step; parameters.
  CostCurve bind;           ///< Flattening, hashing and binding a LoRA; parameters.
  CostCurve copy;           ///< Adding one float32 tensor to another; bytes of one.
  LinkCosts link;

  std::string ToJson() const;
  /// @param source  names the file in messages.
  /// @return INVALID_ARGUMENT naming what is missing or wrong, and how to measure again.
  static absl::StatusOr<Costs> FromJson(std::string_view text, const std::string& source);
};

/// A stage and its name in costs files.
struct NamedStage {
  const char* name;
  CostCurve Costs::*curve;
};
const std::vector<NamedStage>& CostStages();

/// The mean of two measurements of one device, point by point, for a machine whose speed drifts.
/// @return INVALID_ARGUMENT if they do not have the same points.
absl::StatusOr<Costs> MeanCosts(const Costs& before, const Costs& after);

/// The costs of a device `factor` times as fast. The link stays as it is.
Costs FasterCosts(const Costs& costs, double factor);

/// A hint for error messages: how to make a costs file.
std::string HowToMeasure();

}  // namespace imageddpo

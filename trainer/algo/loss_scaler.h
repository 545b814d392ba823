#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

namespace imageddpo {

/// Dynamic loss scaling for fp16 (Micikevicius et al., arXiv:1710.03740). Losses are multiplied by
/// the scale so that small gradients do not become 0; the scale is as large as possible without
/// overflow. It is a power of two, so dividing the gradients by it is exact. All trainers judge the
/// same summed gradient and therefore have the same scale. Thread-compatible.
class LossScaler {
 public:
  static constexpr double kFirstScale = 65536;
  static constexpr double kLargestScale = 16777216;
  static constexpr int64_t kUpdatesToGrow = 2000;  ///< In a row without an overflow.

  /// @param enabled  false: the scale is always 1, and a gradient that is not finite stops the job.
  explicit LossScaler(bool enabled) : enabled_(enabled), scale_(enabled ? kFirstScale : 1) {}

  enum class Verdict {
    kStep,  ///< The gradient is finite: take the step.
    kSkip,  ///< It overflowed: skip the step. The scale has been halved.
    kStop,  ///< It is not finite, and a smaller scale would not help: stop the job.
  };
  /// Call it once for each update, with whether its whole gradient is finite. May change the scale.
  Verdict Judge(bool is_finite);

  bool enabled() const { return enabled_; }
  double scale() const { return scale_; }  ///< For the next update.
  int64_t skipped() const { return skipped_; }

  /// For a checkpoint's state.json.
  nlohmann::ordered_json ToJson() const;
  /// @throws nlohmann::json::exception  the JSON has another structure. A scale that is not a
  ///         possible one is replaced by the nearest possible one.
  void Restore(const nlohmann::json& state);

 private:
  bool enabled_;
  double scale_;
  int64_t good_updates_ = 0;  ///< Finite ones since the scale last changed.
  int64_t skipped_ = 0;
};

}  // namespace imageddpo

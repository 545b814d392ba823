#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

namespace imageddpo {

/// The factor that a loss is multiplied with in fp16 (Micikevicius et al., arXiv:1710.03740), so
/// that small gradients do not vanish: as large as it can be without any overflowing. Its powers of
/// two are divided out of the gradients exactly. The same on every trainer, since all judge the
/// same sum. Thread-compatible.
class LossScaler {
 public:
  static constexpr double kFirstScale = 65536;
  static constexpr double kLargestScale = 16777216;
  static constexpr int64_t kUpdatesToGrow = 2000;  ///< In a row without an overflow.

  /// @param enabled  false: the scale is 1 and what is not finite stops the job.
  explicit LossScaler(bool enabled) : enabled_(enabled), scale_(enabled ? kFirstScale : 1) {}

  enum class Verdict {
    kStep,  ///< The update counts.
    kSkip,  ///< It overflowed: no step is to be taken. The scale is half of what it was.
    kStop,  ///< It is not finite, and no scale makes it so.
  };
  /// After an update. @param is_finite  its whole gradient.
  Verdict Judge(bool is_finite);

  bool enabled() const { return enabled_; }
  double scale() const { return scale_; }  ///< For the update to come.
  int64_t skipped() const { return skipped_; }

  /// For a checkpoint's state.json.
  nlohmann::ordered_json ToJson() const;
  /// @throws nlohmann::json::exception  another shape. A scale that this could not have had becomes
  /// the nearest that it could.
  void Restore(const nlohmann::json& state);

 private:
  bool enabled_;
  double scale_;
  int64_t good_updates_ = 0;  ///< Since the scale changed or an update was skipped.
  int64_t skipped_ = 0;
};

}  // namespace imageddpo

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "trainer/algo/blockwise_quantizer.h"

namespace imageddpo {

struct AdamWOptions {
  double learning_rate = 3e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-4;
  bool moments_8bit = false;     ///< Keep moments in 8 bits, see BlockwiseQuantizer.
  int64_t min_8bit_size = 4096;  ///< Parameters with fewer values keep theirs in 32 bits.
};

/// AdamW (Loshchilov and Hutter, arXiv:1711.05101): weight decay decoupled from the gradient,
/// bias-corrected moments. Works element by element in a fixed order, so equal gradients give equal
/// bits. A step is computed in float32; between steps the moments are float32 or 8-bit.
/// Thread-compatible.
class AdamW {
 public:
  /// @param names   one per parameter, unique; the state's tensors are named after them.
  /// @param params  float32 leaves, updated in place; shared with the model.
  /// @throws std::invalid_argument  sizes differ, a name occurs twice, a parameter is not float32,
  ///         or an option is out of range.
  AdamW(std::vector<std::string> names, std::vector<at::Tensor> params,
        const AdamWOptions& options);

  /// One update. A parameter with an undefined gradient is left unchanged, as are its moments.
  /// @param grads  same order and shapes as the parameters.
  /// @throws std::invalid_argument  sizes or shapes differ.
  void Step(const std::vector<at::Tensor>& grads);

  /// Weight decay pulls towards these values from now on, and not towards 0 (L2-SP: Li et al.,
  /// arXiv:1802.01483): a step adds learning_rate · weight_decay · (origin - parameter).
  /// @param origins  one for each parameter, of its shape, type and device; shared, not copied.
  /// @throws std::invalid_argument  sizes or shapes differ.
  void DecayTowards(std::vector<at::Tensor> origins);

  /// Updates done.
  int64_t step() const { return step_; }
  const AdamWOptions& options() const { return options_; }
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// The state as tensors: `m.<name>`, `v.<name>` (float32) and `step` (int64, 0-d). The moments
  /// are the optimizer's own, which the next step changes. 8-bit moments are uint8 codes, with
  /// `m_scale.<name>` and `v_scale.<name>` (float32, one per block).
  std::map<std::string, at::Tensor> State() const;
  /// Restores what State() returned. INVALID_ARGUMENT names the tensor that is missing, unknown or
  /// of a wrong shape or dtype; then nothing is changed.
  absl::Status LoadState(const std::map<std::string, at::Tensor>& state);

 private:
  /// One moment of one parameter.
  struct Moment {
    at::Tensor values;    ///< float32, or codes.
    at::Tensor scales_N;  ///< Undefined for 32-bit moments.
  };
  static at::Tensor Load(const Moment& moment, const BlockwiseQuantizer& quantizer);
  static void Store(const at::Tensor& values, const BlockwiseQuantizer& quantizer, Moment* moment);

  std::vector<std::string> names_;
  std::vector<at::Tensor> params_;
  std::vector<at::Tensor> origins_;  ///< Of DecayTowards(); empty: 0.
  BlockwiseQuantizer m_quantizer_{/*is_signed=*/true};
  BlockwiseQuantizer v_quantizer_{/*is_signed=*/false};
  std::vector<Moment> m_;
  std::vector<Moment> v_;
  AdamWOptions options_;
  int64_t step_ = 0;
};

/// The 2-norm over all tensors together: 0-d float32 on their device. @param tensors  at least one.
at::Tensor NormOf(const std::vector<at::Tensor>& tensors);

/// Scales all gradients in place by min(1, max_norm/(norm + 1e-6)), where norm is the 2-norm over
/// all of them together.
/// @param grads  float32; undefined ones are skipped.
/// @return       the norm before clipping. If it is not finite, the gradients are unchanged and the
///         caller must not take a step.
double ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm);

}  // namespace imageddpo

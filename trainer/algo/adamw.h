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

/// AdamW (Loshchilov and Hutter, arXiv:1711.05101): decay apart from the gradient, bias-corrected
/// moments. Element-wise and in a fixed order, so that equal gradients give equal bits. A step is
/// computed in float32; moments are float32 or, between steps, 8-bit. Thread-compatible.
class AdamW {
 public:
  /// @param names   one per parameter, unique; they name the state's tensors.
  /// @param params  float32 leaves, updated in place; shared with the model.
  /// @throws std::invalid_argument  sizes differ, a name twice, not float32, an option out of
  /// range.
  AdamW(std::vector<std::string> names, std::vector<at::Tensor> params,
        const AdamWOptions& options);

  /// One update. An undefined gradient leaves its parameter and moments alone.
  /// @param grads  same order and shapes as the parameters.
  /// @throws std::invalid_argument  sizes or shapes differ.
  void Step(const std::vector<at::Tensor>& grads);

  /// Updates done.
  int64_t step() const { return step_; }
  const AdamWOptions& options() const { return options_; }
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// `m.<name>`, `v.<name>` (float32 copies) and `step` (int64, 0-d). In 8 bits: uint8 codes, and
  /// `m_scale.<name>`, `v_scale.<name>` (float32, one for each block).
  std::map<std::string, at::Tensor> State() const;
  /// Takes over what State() gave. InvalidArgument names the tensor that is missing, left over or
  /// of a wrong shape or dtype; then nothing is changed.
  absl::Status LoadState(const std::map<std::string, at::Tensor>& state);

 private:
  /// One moment of one parameter.
  struct Moment {
    at::Tensor values;    ///< float32, or codes.
    at::Tensor scales_N;  ///< Undefined: 32 bits.
  };
  static at::Tensor Load(const Moment& moment, const BlockwiseQuantizer& quantizer);
  static void Store(const at::Tensor& values, const BlockwiseQuantizer& quantizer, Moment* moment);

  std::vector<std::string> names_;
  std::vector<at::Tensor> params_;
  BlockwiseQuantizer m_quantizer_{/*is_signed=*/true};
  BlockwiseQuantizer v_quantizer_{/*is_signed=*/false};
  std::vector<Moment> m_;
  std::vector<Moment> v_;
  AdamWOptions options_;
  int64_t step_ = 0;
};

/// Scales all gradients in place by min(1, max_norm/(norm + 1e-6)), norm = the 2-norm over all of
/// them together.
/// @param grads  float32; undefined ones are skipped.
/// @return       the norm before clipping. Not finite: the gradients are left alone and the caller
/// must not step.
double ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm);

}  // namespace imageddpo

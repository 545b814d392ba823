#pragma once

#include <cstdint>
#include <string>

#include "common/model_config/model_count.h"

namespace imageddpo {

/// Counts operations, parameters and activations of a network. The caller walks through the layers
/// in the order of a forward pass and calls one method per layer. Thread-compatible.
///
/// Parameters of the methods: `in`, `out` and `channels` are channels (features); `n` is the number
/// of positions (pixels or tokens) of the layer's output.
class LayerCounter {
 public:
  /// @param targets  which linear layers have LoRA adapters; null: none. Must outlive the counter.
  explicit LayerCounter(const AdapterTargets* targets = nullptr) : targets_(targets) {}

  struct LinearOptions {
    bool bias = true;
    bool embedded = false;  ///< The input is an embedding, which needs no gradient.
  };

  /// A square convolution with bias, `kernel` pixels each way.
  void Conv(int64_t in, int64_t out, int64_t kernel, int64_t n);
  /// A linear layer, or a convolution of 1×1 with bias. @param path  the end of its path in the
  /// model, to find its adapter.
  void Linear(const std::string& path, int64_t in, int64_t out, int64_t n, LinearOptions options);
  void Linear(const std::string& path, int64_t in, int64_t out, int64_t n) {
    Linear(path, in, out, n, {});
  }
  void Norm(int64_t channels, int64_t n);
  void Pointwise(int64_t channels, int64_t n) { Output(channels, n); }
  /// softmax(q k^T) v, where `width` is the sum over all heads.
  void Attention(int64_t queries, int64_t keys, int64_t width);
  /// Parameters that belong to none of the other layers.
  void Parameters(int64_t values) { count_.parameters += static_cast<double>(values); }
  /// A tensor that stays alive until the end of the pass, such as a skip connection.
  void Keep(int64_t channels, int64_t n) { kept_ += static_cast<double>(channels * n); }

  /// A residual block: twice norm, activation and 3x3 convolution; a time embedding if time_dim >
  /// 0; a 1x1 convolution on the shortcut if in != out.
  void Resnet(int64_t in, int64_t out, int64_t time_dim, int64_t n);

  /// With gradient checkpointing, the layers between BeginPart() and EndPart() are recomputed in
  /// the backward pass; only the part's input, [channels, n], is kept. Parts do not nest.
  void BeginPart(int64_t channels, int64_t n);
  void EndPart();

  /// The counts of all layers so far.
  PassCount count() const;

 private:
  void Output(int64_t channels, int64_t n);
  bool HasAdapter(const std::string& path) const;

  const AdapterTargets* targets_;
  PassCount count_;
  bool reached_ = false;           ///< An earlier layer has an adapter: gradients are needed here.
  double largest_ = 0, kept_ = 0;  ///< Values of the largest output, and of all Keep() tensors.
  /// Saved values: before the open part, in all parts, in their inputs, in the largest part.
  double part_begin_ = 0, parts_ = 0, part_inputs_ = 0, largest_part_ = 0;
  /// Inputs of layers with adapters: before the open part, in all parts, in the part with most.
  double adapters_begin_ = 0, in_parts_ = 0, most_in_part_ = 0;
};

}  // namespace imageddpo

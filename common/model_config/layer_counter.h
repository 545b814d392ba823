#pragma once

#include <cstdint>
#include <string>

#include "common/model_config/model_count.h"

namespace imageddpo {

/// Walks through a network's layers, in the order of a forward pass, and adds up what they take.
/// `n` is always the number of positions (pixels or tokens) of a layer's output.
class LayerCounter {
 public:
  /// @param targets  may be null: no adapters.
  explicit LayerCounter(const AdapterTargets* targets = nullptr) : targets_(targets) {}

  struct LinearOptions {
    bool bias = true;
    bool embedded = false;  ///< The input is an embedding: no gradient goes to it.
  };

  void Conv(int64_t in, int64_t out, int64_t kernel, int64_t n);
  /// @param path  the end of the layer's path, for the adapters.
  void Linear(const std::string& path, int64_t in, int64_t out, int64_t n, LinearOptions options);
  void Linear(const std::string& path, int64_t in, int64_t out, int64_t n) {
    Linear(path, in, out, n, {});
  }
  void Norm(int64_t channels, int64_t n);
  void Pointwise(int64_t channels, int64_t n) { Output(channels, n); }
  /// softmax(q k^T) v of `queries` and `keys` positions of `width` values over all heads.
  void Attention(int64_t queries, int64_t keys, int64_t width);
  void Parameters(int64_t values) { count_.parameters += static_cast<double>(values); }
  /// A tensor that stays alive beside the others until the pass is over.
  void Keep(int64_t channels, int64_t n) { kept_ += static_cast<double>(channels * n); }

  /// Norm, activation, 3x3, norm, activation, 3x3, with a time embedding where time_dim > 0.
  void Resnet(int64_t in, int64_t out, int64_t time_dim, int64_t n);

  /// What comes until EndPart() is computed again in a backward pass, from an input of so many
  /// values that is kept.
  void BeginPart(int64_t channels, int64_t n);
  void EndPart();

  PassCount count() const;

 private:
  void Output(int64_t channels, int64_t n);
  bool HasAdapter(const std::string& path) const;

  const AdapterTargets* targets_;
  PassCount count_;
  bool reached_ = false;  ///< By the backward pass: a layer before this one has an adapter.
  double largest_ = 0, kept_ = 0;
  double part_begin_ = 0, parts_ = 0, part_inputs_ = 0, largest_part_ = 0;  ///< Saved values.
};

}  // namespace imageddpo

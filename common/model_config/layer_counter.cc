#include "common/model_config/layer_counter.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {

void LayerCounter::Output(int64_t channels, int64_t n) {
  const auto values = static_cast<double>(channels * n);
  count_.saved_values += values;
  largest_ = std::max(largest_, values);
}

bool LayerCounter::HasAdapter(const std::string& path) const {
  if (targets_ == nullptr || targets_->rank < 1) return false;
  return std::any_of(targets_->modules.begin(), targets_->modules.end(), [&](const auto& module) {
    return absl::EndsWith(absl::StrCat(".", path), absl::StrCat(".", module));
  });
}

void LayerCounter::Conv(int64_t in, int64_t out, int64_t kernel, int64_t n) {
  const int64_t weight = in * out * kernel * kernel;
  const double flops = 2.0 * static_cast<double>(weight) * static_cast<double>(n);
  count_.flops += flops;
  if (reached_) count_.backward_flops += flops;
  Parameters(weight + out);
  Output(out, n);
}

void LayerCounter::Linear(const std::string& path, int64_t in, int64_t out, int64_t n,
                          LinearOptions options) {
  const double flops = 2.0 * static_cast<double>(in * out) * static_cast<double>(n);
  const bool to_input = reached_ && !options.embedded;
  count_.flops += flops;
  if (to_input) count_.backward_flops += flops;
  Parameters(in * out + (options.bias ? out : 0));
  Output(out, n);
  if (!HasAdapter(path)) return;
  const double factor = 2.0 * static_cast<double>(targets_->rank) * static_cast<double>(n);
  const double down = factor * static_cast<double>(in), up = factor * static_cast<double>(out);
  count_.lora_parameters += static_cast<double>(targets_->rank * (in + out));
  count_.lora_flops += down + up;
  count_.adapter_inputs += static_cast<double>(in * n);
  count_.backward_flops += down + up;                   // To the two factors.
  count_.backward_flops += up + (to_input ? down : 0);  // Through them.
  reached_ = true;
}

void LayerCounter::Norm(int64_t channels, int64_t n) {
  Parameters(2 * channels);
  Output(channels, n);
}

void LayerCounter::Attention(int64_t queries, int64_t keys, int64_t width) {
  const double flops = 4.0 * static_cast<double>(queries * keys) * static_cast<double>(width);
  count_.flops += flops;
  if (reached_) count_.backward_flops += 2 * flops;  // Two products; four on the way back.
  Output(width, queries);
}

void LayerCounter::Resnet(int64_t in, int64_t out, int64_t time_dim, int64_t n) {
  Norm(in, n);
  Pointwise(in, n);
  Conv(in, out, 3, n);
  if (time_dim > 0) Linear("time_emb_proj", time_dim, out, 1, {.embedded = true});
  Norm(out, n);
  Pointwise(out, n);
  Conv(out, out, 3, n);
  if (in != out) Linear("conv_shortcut", in, out, n);
}

void LayerCounter::BeginPart(int64_t channels, int64_t n) {
  part_begin_ = count_.saved_values;
  adapters_begin_ = count_.adapter_inputs;
  part_inputs_ += static_cast<double>(channels * n);
}

void LayerCounter::EndPart() {
  const double part = count_.saved_values - part_begin_;
  parts_ += part;
  largest_part_ = std::max(largest_part_, part);
  const double inputs = count_.adapter_inputs - adapters_begin_;
  in_parts_ += inputs;
  most_in_part_ = std::max(most_in_part_, inputs);
}

PassCount LayerCounter::count() const {
  // A layer's input, what its activation made of it, and its output.
  constexpr double kLiveTensors = 3;
  PassCount count = count_;
  count.live_values = kLiveTensors * largest_ + kept_;
  count.recomputed_adapter_inputs = count.adapter_inputs - in_parts_ + most_in_part_;
  count.recomputed_values = count.saved_values - parts_ + part_inputs_ + largest_part_;
  return count;
}

}  // namespace imageddpo

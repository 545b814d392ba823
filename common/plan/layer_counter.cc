#include "common/plan/layer_counter.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {

void LayerCounter::Output(int64_t channels, int64_t n) {
  const auto values = static_cast<double>(channels * n);
  count_.saved_values += values;
  largest_ = std::max(largest_, values);
}

void LayerCounter::Conv(int64_t in, int64_t out, int64_t kernel, int64_t n) {
  const int64_t weight = in * out * kernel * kernel;
  count_.flops += 2.0 * static_cast<double>(weight) * static_cast<double>(n);
  Parameters(weight + out);
  Output(out, n);
}

void LayerCounter::Linear(const std::string& path, int64_t in, int64_t out, int64_t n, bool bias) {
  count_.flops += 2.0 * static_cast<double>(in * out) * static_cast<double>(n);
  Parameters(in * out + (bias ? out : 0));
  Output(out, n);
  if (targets_ == nullptr) return;
  for (const std::string& module : targets_->modules) {
    if (!absl::EndsWith(absl::StrCat(".", path), absl::StrCat(".", module))) continue;
    lora_parameters_ += static_cast<double>(targets_->rank * (in + out));
    break;
  }
}

void LayerCounter::Norm(int64_t channels, int64_t n) {
  Parameters(2 * channels);
  Output(channels, n);
}

void LayerCounter::Attention(int64_t queries, int64_t keys, int64_t width) {
  count_.flops += 4.0 * static_cast<double>(queries * keys) * static_cast<double>(width);
  Output(width, queries);
}

void LayerCounter::Resnet(int64_t in, int64_t out, int64_t time_dim, int64_t n) {
  Norm(in, n);
  Pointwise(in, n);
  Conv(in, out, 3, n);
  if (time_dim > 0) Linear("time_emb_proj", time_dim, out, 1);
  Norm(out, n);
  Pointwise(out, n);
  Conv(out, out, 3, n);
  if (in != out) Conv(in, out, 1, n);
}

PassCount LayerCounter::count() const {
  // A layer's input, what its activation made of it, and its output.
  constexpr double kLiveTensors = 3;
  PassCount count = count_;
  count.live_values = kLiveTensors * largest_ + kept_;
  return count;
}

}  // namespace imageddpo

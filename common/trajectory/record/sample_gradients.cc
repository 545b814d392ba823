#include "common/trajectory/record/sample_gradients.h"

#include <absl/strings/str_cat.h>

#include <stdexcept>
#include <utility>

namespace imageddpo {

void SampleGradients::Put(int64_t micro_batch, at::Tensor gradients_BP) {
  if (gradients_.emplace(micro_batch, std::move(gradients_BP)).second) return;
  throw std::invalid_argument(
      absl::StrCat("SampleGradients: micro-batch ", micro_batch, " is there already"));
}

at::Tensor SampleGradients::Take(int64_t micro_batch) {
  auto found = gradients_.extract(micro_batch);
  if (!found.empty()) return std::move(found.mapped());
  throw std::invalid_argument(
      absl::StrCat("SampleGradients: this rank has no gradients of micro-batch ", micro_batch));
}

}  // namespace imageddpo

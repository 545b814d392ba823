#include "tests/gpu_check/check_row.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace imageddpo {

double RelativeError(const at::Tensor& found, const at::Tensor& expected) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!found.sizes().equals(expected.sizes())) return kInfinity;
  const at::Tensor ours = found.detach().to(at::kCPU).to(at::kDouble);
  if (!at::isfinite(ours).all().item<bool>()) return kInfinity;
  const at::Tensor theirs = expected.to(at::kCPU).to(at::kDouble);
  return (ours - theirs).norm().item<double>() / std::max(theirs.norm().item<double>(), 1e-12);
}

nlohmann::json ToJson(const CheckRow& row) {
  nlohmann::json json = {{"part", row.part},
                         {"name", row.name},
                         {"precision", row.precision},
                         {"bound", row.bound},
                         {"passed", row.passed()}};
  if (std::isfinite(row.error)) json["error"] = row.error;  // JSON has no infinity.
  if (!row.failure.empty()) json["failure"] = row.failure;
  return json;
}

int64_t CountFailed(const std::vector<CheckRow>& rows) {
  return std::count_if(rows.begin(), rows.end(), [](const CheckRow& row) { return !row.passed(); });
}

}  // namespace imageddpo

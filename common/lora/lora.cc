#include "common/lora/lora.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/device/copies.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

/// The target that `path` ends with, at a boundary of its components; nullptr for none.
const std::string* MatchingTarget(const std::string& path,
                                  const std::vector<std::string>& targets) {
  for (const std::string& target : targets) {
    if (path == target || absl::EndsWith(path, absl::StrCat(".", target))) return &target;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<Lora> Lora::Create(const std::vector<LinearInfo>& linears, const LoraConfig& config,
                                  const NormalFn& normal, at::Device device) {
  if (config.rank < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora.rank = ", config.rank, ": must be at least 1"));
  }
  if (!std::isfinite(config.alpha) || config.alpha == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora.alpha = ", config.alpha, ": must be finite and not 0"));
  }
  const double rank = static_cast<double>(config.rank);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  if (config.target_modules.empty())
    return absl::InvalidArgumentError("lora.target_modules: empty");
  std::set<std::string> unmatched(config.target_modules.begin(), config.target_modules.end());
  Lora lora;
  for (const LinearInfo& linear : linears) {
    const std::string* target = MatchingTarget(linear.path, config.target_modules);
    if (target == nullptr) continue;
    unmatched.erase(*target);
    Module module = {.path = linear.path,
                     .alpha = config.alpha,
                     .scale = config.alpha / rank,
                     .is_convolution = linear.is_convolution};
    module.down_RI = (normal(linear.path, {config.rank, linear.in_features}) / rank).to(options);
    module.up_OR = at::zeros({linear.out_features, config.rank}, options);
    module.down_RI.requires_grad_(true);
    module.up_OR.requires_grad_(true);
    lora.modules_.push_back(std::move(module));
  }
  if (!unmatched.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora.target_modules: the model has no linear layer named ",
                     absl::StrJoin(unmatched, ", ")));
  }
  std::sort(lora.modules_.begin(), lora.modules_.end(),
            [](const Module& a, const Module& b) { return a.path < b.path; });
  return lora;
}

std::vector<at::Tensor> Lora::Parameters() const {
  std::vector<at::Tensor> parameters;
  for (const Module& module : modules_) {
    parameters.push_back(module.down_RI);
    parameters.push_back(module.up_OR);
  }
  return parameters;
}

std::vector<std::string> Lora::ParameterNames() const {
  std::vector<std::string> names;
  for (const Module& module : modules_) {
    names.push_back(absl::StrCat("unet.", module.path, ".lora.down.weight"));
    names.push_back(absl::StrCat("unet.", module.path, ".lora.up.weight"));
  }
  return names;
}

int64_t Lora::num_parameters() const {
  int64_t count = 0;
  for (const Module& module : modules_) count += module.down_RI.numel() + module.up_OR.numel();
  return count;
}

std::string Lora::Hash() const {
  std::string bytes;
  for (const Module& module : modules_) {
    absl::StrAppendFormat(&bytes, "%s %d %.17g\n", module.path, module.rank(), module.alpha);
  }
  const at::Tensor values_P = MoveTo(Flatten(), at::kCPU);
  bytes.append(static_cast<const char*>(values_P.const_data_ptr()), values_P.nbytes());
  return Sha256Hex(bytes);
}

Lora Lora::Clone() const {
  const at::NoGradGuard no_grad;
  Lora copy = *this;
  for (Module& module : copy.modules_) {
    module.down_RI = module.down_RI.clone().requires_grad_(true);
    module.up_OR = module.up_OR.clone().requires_grad_(true);
  }
  return copy;
}

void Lora::CopyFrom(const Lora& other) {
  const auto same = [](const Module& a, const Module& b) {
    return a.path == b.path && a.alpha == b.alpha && a.down_RI.sizes() == b.down_RI.sizes() &&
           a.up_OR.sizes() == b.up_OR.sizes();
  };
  if (!std::equal(modules_.begin(), modules_.end(), other.modules_.begin(), other.modules_.end(),
                  same)) {
    throw std::invalid_argument("Lora::CopyFrom: modules, ranks or alphas differ");
  }
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < modules_.size(); ++i) {
    modules_[i].down_RI.copy_(other.modules_[i].down_RI);
    modules_[i].up_OR.copy_(other.modules_[i].up_OR);
  }
}

at::Tensor Lora::Flatten() const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  for (const at::Tensor& parameter : Parameters()) flat.push_back(parameter.detach().reshape(-1));
  return flat.empty() ? at::empty({0}, at::kFloat) : at::cat(flat);
}

void Lora::Unflatten(const at::Tensor& flat_P) {
  if (flat_P.dim() != 1 || flat_P.size(0) != num_parameters() ||
      flat_P.scalar_type() != at::kFloat) {
    throw std::invalid_argument(absl::StrCat(
        "Lora::Unflatten: expected float32 [", num_parameters(), "], got ",
        c10::toString(flat_P.scalar_type()), " [", absl::StrJoin(flat_P.sizes(), ", "), "]"));
  }
  if (modules_.empty()) return;
  const at::NoGradGuard no_grad;
  const at::Tensor values_P = MoveTo(flat_P, modules_.front().down_RI.device());
  int64_t offset = 0;
  for (at::Tensor& parameter : Parameters()) {
    parameter.copy_(values_P.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    offset += parameter.numel();
  }
}

}  // namespace imageddpo

#include "trainer/algo/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <set>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr char kStepName[] = "step";

std::string MomentName(const char* moment, const std::string& name) {
  return absl::StrCat(moment, ".", name);
}

void CheckOptions(const AdamWOptions& options) {
  const auto fail = [](const char* what) {
    throw std::invalid_argument(absl::StrCat("AdamW: ", what));
  };
  if (!(options.learning_rate >= 0) || !std::isfinite(options.learning_rate))
    fail("learning_rate must be finite and not negative");
  if (!(options.beta1 >= 0 && options.beta1 < 1)) fail("beta1 must lie in [0, 1)");
  if (!(options.beta2 >= 0 && options.beta2 < 1)) fail("beta2 must lie in [0, 1)");
  if (!(options.epsilon >= 0)) fail("epsilon must not be negative");
  if (!(options.weight_decay >= 0)) fail("weight_decay must not be negative");
}

}  // namespace

AdamW::AdamW(std::vector<std::string> names, std::vector<at::Tensor> params,
             const AdamWOptions& options)
    : names_(std::move(names)), params_(std::move(params)), options_(options) {
  CheckOptions(options_);
  if (names_.size() != params_.size())
    throw std::invalid_argument("AdamW: one name per parameter is needed");
  if (std::set<std::string>(names_.begin(), names_.end()).size() != names_.size()) {
    throw std::invalid_argument("AdamW: two parameters have the same name");
  }
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < params_.size(); ++i) {
    if (params_[i].scalar_type() != at::kFloat) {
      throw std::invalid_argument(absl::StrCat("AdamW: parameter ", names_[i], " is not float32"));
    }
    m_.push_back(at::zeros_like(params_[i]));
    v_.push_back(at::zeros_like(params_[i]));
  }
}

void AdamW::Step(const std::vector<at::Tensor>& grads) {
  if (grads.size() != params_.size())
    throw std::invalid_argument("AdamW::Step: one gradient per parameter is needed");
  for (size_t i = 0; i < grads.size(); ++i) {
    if (grads[i].defined() && grads[i].sizes() != params_[i].sizes()) {
      throw std::invalid_argument(
          absl::StrCat("AdamW::Step: the gradient of ", names_[i], " has another shape"));
    }
  }
  const c10::NoGradGuard no_grad;
  ++step_;
  const auto t = static_cast<double>(step_);
  const double correction1 = 1.0 - std::pow(options_.beta1, t);
  const double root_correction2 = std::sqrt(1.0 - std::pow(options_.beta2, t));
  for (size_t i = 0; i < params_.size(); ++i) {
    if (!grads[i].defined()) continue;
    params_[i].mul_(1.0 - options_.learning_rate * options_.weight_decay);
    m_[i].lerp_(grads[i], 1.0 - options_.beta1);
    v_[i].mul_(options_.beta2).addcmul_(grads[i], grads[i], 1.0 - options_.beta2);
    const at::Tensor denominator = (v_[i].sqrt() / root_correction2).add_(options_.epsilon);
    params_[i].addcdiv_(m_[i], denominator, -options_.learning_rate / correction1);
  }
}

std::map<std::string, at::Tensor> AdamW::State() const {
  std::map<std::string, at::Tensor> state;
  for (size_t i = 0; i < params_.size(); ++i) {
    state[MomentName("m", names_[i])] = m_[i].clone();
    state[MomentName("v", names_[i])] = v_[i].clone();
  }
  state[kStepName] = at::scalar_tensor(step_, at::kLong);
  return state;
}

absl::Status AdamW::LoadState(const std::map<std::string, at::Tensor>& state) {
  const auto malformed = [](const std::string& name, const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("optimizer state: tensor ", name, " ", what));
  };
  const auto step = state.find(kStepName);
  if (step == state.end()) return malformed(kStepName, "is missing");
  if (step->second.scalar_type() != at::kLong || step->second.numel() != 1 ||
      step->second.item<int64_t>() < 0) {
    return malformed(kStepName, "must be one int64 of at least 0");
  }
  std::set<std::string> expected = {kStepName};
  for (const char* moment : {"m", "v"}) {
    for (size_t i = 0; i < params_.size(); ++i) {
      const std::string name = MomentName(moment, names_[i]);
      expected.insert(name);
      const auto it = state.find(name);
      if (it == state.end()) return malformed(name, "is missing");
      if (it->second.scalar_type() != at::kFloat) return malformed(name, "must be float32");
      if (it->second.sizes() != params_[i].sizes())
        return malformed(name, "has another shape than its parameter");
    }
  }
  for (const auto& [name, tensor] : state) {
    if (!expected.contains(name)) return malformed(name, "belongs to no parameter");
  }
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < params_.size(); ++i) {
    m_[i].copy_(state.at(MomentName("m", names_[i])));
    v_[i].copy_(state.at(MomentName("v", names_[i])));
  }
  step_ = step->second.item<int64_t>();
  return absl::OkStatus();
}

double ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm) {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) norms.push_back(grad.norm());
  }
  if (norms.empty()) return 0.0;
  const at::Tensor total = at::stack(norms).norm();
  const double norm = total.item<double>();
  if (!std::isfinite(norm)) return norm;
  const at::Tensor scale = (max_norm / (total + 1e-6)).clamp_max(1.0);
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) grad.mul_(scale);
  }
  return norm;
}

}  // namespace imageddpo

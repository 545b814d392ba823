#include "trainer/algo/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
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
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr char kStepName[] = "step";

std::string MomentName(const char* moment, const std::string& name) {
  return absl::StrCat(moment, ".", name);
}

std::string ScaleName(const char* moment, const std::string& name) {
  return absl::StrCat(moment, "_scale.", name);
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
  if (options.min_8bit_size < 0) fail("min_8bit_size must not be negative");
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
    const at::Tensor zeros = at::zeros_like(params_[i]);
    const bool coded = options_.moments_8bit && params_[i].numel() >= options_.min_8bit_size;
    const at::Tensor none;
    m_.push_back({zeros, coded ? at::empty({0}) : none});
    v_.push_back({zeros.clone(), coded ? at::empty({0}) : none});
    if (!coded) continue;
    Store(zeros, m_quantizer_, &m_.back());
    Store(zeros, v_quantizer_, &v_.back());
  }
}

at::Tensor AdamW::Load(const Moment& moment, const BlockwiseQuantizer& quantizer) {
  if (!moment.scales_N.defined()) return moment.values;
  return quantizer.Dequantize({.codes = moment.values, .scales_N = moment.scales_N});
}

void AdamW::Store(const at::Tensor& values, const BlockwiseQuantizer& quantizer, Moment* moment) {
  if (!moment->scales_N.defined()) return;  // Changed in place.
  BlockwiseQuantizer::Quantized quantized = quantizer.Quantize(values);
  moment->values = std::move(quantized.codes);
  moment->scales_N = std::move(quantized.scales_N);
}

void AdamW::DecayTowards(std::vector<at::Tensor> origins) {
  bool fits = origins.size() == params_.size();
  for (size_t i = 0; fits && i < origins.size(); ++i) {
    fits = origins[i].sizes() == params_[i].sizes();
  }
  if (!fits) throw std::invalid_argument("AdamW::DecayTowards: not a tensor for each parameter");
  origins_ = std::move(origins);
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
    const double decay = options_.learning_rate * options_.weight_decay;
    params_[i].mul_(1.0 - decay);
    if (!origins_.empty()) params_[i].add_(origins_[i], decay);
    const at::Tensor m = Load(m_[i], m_quantizer_).lerp_(grads[i], 1.0 - options_.beta1);
    const at::Tensor v = Load(v_[i], v_quantizer_)
                             .mul_(options_.beta2)
                             .addcmul_(grads[i], grads[i], 1.0 - options_.beta2);
    const at::Tensor denominator = (v.sqrt() / root_correction2).add_(options_.epsilon);
    params_[i].addcdiv_(m, denominator, -options_.learning_rate / correction1);
    Store(m, m_quantizer_, &m_[i]);
    Store(v, v_quantizer_, &v_[i]);
  }
}

std::map<std::string, at::Tensor> AdamW::State() const {
  std::map<std::string, at::Tensor> state;
  for (const auto& [kind, moments] : {std::pair("m", &m_), std::pair("v", &v_)}) {
    for (size_t i = 0; i < params_.size(); ++i) {
      const Moment& moment = (*moments)[i];
      state[MomentName(kind, names_[i])] = moment.values;
      if (moment.scales_N.defined()) {
        state[ScaleName(kind, names_[i])] = moment.scales_N;
      }
    }
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
  const auto check = [&](const std::string& name, const at::Tensor& like) {
    expected.insert(name);
    const auto it = state.find(name);
    if (it == state.end()) return malformed(name, "is missing");
    if (it->second.scalar_type() != like.scalar_type())
      return malformed(name, like.scalar_type() == at::kByte ? "must be uint8 (train.optimizer)"
                                                             : "must be float32 (train.optimizer)");
    if (it->second.sizes() != like.sizes())
      return malformed(name, "has another shape than its parameter");
    return absl::OkStatus();
  };
  for (const auto& [kind, moments] : {std::pair("m", &m_), std::pair("v", &v_)}) {
    for (size_t i = 0; i < params_.size(); ++i) {
      const Moment& moment = (*moments)[i];
      IMAGEDDPO_RETURN_IF_ERROR(check(MomentName(kind, names_[i]), moment.values));
      if (!moment.scales_N.defined()) continue;
      IMAGEDDPO_RETURN_IF_ERROR(check(ScaleName(kind, names_[i]), moment.scales_N));
    }
  }
  for (const auto& [name, tensor] : state) {
    if (!expected.contains(name)) return malformed(name, "belongs to no parameter");
  }
  const c10::NoGradGuard no_grad;
  for (const auto& [kind, moments] : {std::pair("m", &m_), std::pair("v", &v_)}) {
    for (size_t i = 0; i < params_.size(); ++i) {
      Moment& moment = (*moments)[i];
      moment.values.copy_(state.at(MomentName(kind, names_[i])));
      if (moment.scales_N.defined()) moment.scales_N.copy_(state.at(ScaleName(kind, names_[i])));
    }
  }
  step_ = step->second.item<int64_t>();
  return absl::OkStatus();
}

at::Tensor NormOf(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> norms;
  for (const at::Tensor& tensor : tensors) norms.push_back(tensor.norm());
  return at::stack(norms).norm();
}

double ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm) {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> defined;
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) defined.push_back(grad);
  }
  if (defined.empty()) return 0.0;
  const at::Tensor total = NormOf(defined);
  const double norm = total.item<double>();
  if (!std::isfinite(norm)) return norm;
  const at::Tensor scale = (max_norm / (total + 1e-6)).clamp_max(1.0);
  for (const at::Tensor& grad : grads) {
    if (grad.defined()) grad.mul_(scale);
  }
  return norm;
}

}  // namespace imageddpo

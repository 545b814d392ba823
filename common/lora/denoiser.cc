#include "common/lora/denoiser.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace imageddpo {
namespace {

bool SameDevice(at::Device a, at::Device b) {
  return a.type() == b.type() && (a.index() == b.index() || !a.has_index() || !b.has_index());
}

}  // namespace

Denoiser::Denoiser(std::vector<NamedLinear> linears, const ModelOptions& options)
    : linears_(std::move(linears)), options_(options) {
  std::sort(linears_.begin(), linears_.end(),
            [](const NamedLinear& a, const NamedLinear& b) { return a.info.path < b.info.path; });
}

bool Denoiser::NeedsGraph() const {
  return c10::GradMode::is_enabled() &&
         std::any_of(linears_.begin(), linears_.end(), [](const NamedLinear& linear) {
           return linear.slot->down_RI.defined() && linear.slot->down_RI.requires_grad();
         });
}

absl::StatusOr<int> Denoiser::BindLora(const Lora& lora) {
  std::map<std::string, const NamedLinear*> by_path;
  for (const NamedLinear& linear : linears_) by_path[linear.info.path] = &linear;
  std::vector<std::string> unfit;
  for (const Lora::Module& module : lora.modules()) {
    const auto it = by_path.find(module.path);
    const bool fits = it != by_path.end() &&
                      it->second->info.in_features == module.down_RI.size(1) &&
                      it->second->info.out_features == module.up_OR.size(0) &&
                      SameDevice(module.down_RI.device(), options_.device);
    if (!fits) unfit.push_back(module.path);
  }
  if (!unfit.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("LoRA: no linear layer of that size, on that device, in the model for ",
                     absl::StrJoin(unfit, ", ")));
  }
  UnbindLora();
  for (const Lora::Module& module : lora.modules()) {
    LoraSlot& slot = *by_path.at(module.path)->slot;
    slot.down_RI = module.down_RI;
    slot.up_OR = module.up_OR;
    slot.scale = module.scale;
  }
  return static_cast<int>(lora.modules().size());
}

void Denoiser::UnbindLora() {
  for (const NamedLinear& linear : linears_) *linear.slot = LoraSlot();
}

void Denoiser::FoldLora() {
  if (options_.dtype != at::kFloat) return;
  const at::NoGradGuard no_grad;
  for (const NamedLinear& linear : linears_) {
    LoraSlot& slot = *linear.slot;
    if (!slot.down_RI.defined()) continue;
    slot.folded_OI = at::addmm(linear.weight_OI, slot.up_OR, slot.down_RI, 1, slot.scale);
  }
}

void Denoiser::UnfoldLora() {
  for (const NamedLinear& linear : linears_) linear.slot->folded_OI = at::Tensor();
}

void Denoiser::CaptureRowGradients(const Lora& lora, const std::vector<at::Tensor>& gradients) {
  const std::vector<at::Tensor> parameters = lora.Parameters();
  bool fits = gradients.size() == parameters.size();
  for (size_t i = 0; fits && i < parameters.size(); ++i) {
    const at::Tensor& rows = gradients[i];
    fits = rows.dim() == 3 && rows.sizes().slice(1) == parameters[i].sizes() &&
           rows.scalar_type() == at::kFloat && rows.is_contiguous();
  }
  if (!fits) {
    throw std::invalid_argument(
        "CaptureRowGradients: one contiguous float32 [B, shape] for each parameter is needed");
  }
  std::map<std::string, LoraSlot*> by_path;
  for (const NamedLinear& linear : linears_) by_path[linear.info.path] = linear.slot.get();
  for (const Lora::Module& module : lora.modules()) {
    const auto slot = by_path.find(module.path);
    if (slot != by_path.end() && slot->second->down_RI.is_same(module.down_RI)) continue;
    throw std::invalid_argument(
        absl::StrCat("CaptureRowGradients: the LoRA's ", module.path, " is not bound"));
  }
  for (size_t m = 0; m < lora.modules().size(); ++m) {
    LoraSlot& slot = *by_path.at(lora.modules()[m].path);
    slot.down_grad_BRI = gradients[2 * m];
    slot.up_grad_BOR = gradients[2 * m + 1];
  }
}

void Denoiser::ReleaseRowGradients() {
  for (const NamedLinear& linear : linears_) {
    linear.slot->down_grad_BRI = at::Tensor();
    linear.slot->up_grad_BOR = at::Tensor();
  }
}

WithoutLora::WithoutLora(Denoiser* denoiser) : denoiser_(denoiser) {
  for (const NamedLinear& linear : denoiser_->linears_) {
    slots_.push_back(std::exchange(*linear.slot, LoraSlot()));
  }
}

WithoutLora::~WithoutLora() {
  for (size_t i = 0; i < slots_.size(); ++i) {
    *denoiser_->linears_[i].slot = std::move(slots_[i]);
  }
}

std::vector<LinearInfo> Denoiser::linears() const {
  std::vector<LinearInfo> infos;
  for (const NamedLinear& linear : linears_) infos.push_back(linear.info);
  return infos;
}

}  // namespace imageddpo

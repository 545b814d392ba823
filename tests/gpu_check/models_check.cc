#include "tests/gpu_check/models_check.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/safetensors.h"
#include "common/lora/lora.h"
#include "common/sd/text_encoder.h"
#include "common/sd/unet.h"
#include "common/sd/vae.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr double kBfloat16GradientBound = 1e-1;

class ModelsCheck {
 public:
  ModelsCheck(std::string folder, const CheckOptions& options)
      : folder_(std::move(folder)),
        options_(options),
        model_{.device = options.device, .dtype = options.dtype, .fused = options.fused} {}

  std::vector<CheckRow> Run() {
    const absl::Status status = RunAll();
    if (!status.ok()) {
      rows_.push_back({.part = "models",
                       .name = Name(""),
                       .precision = options_.precision(),
                       .failure = status.ToString()});
    }
    return std::move(rows_);
  }

 private:
  absl::Status RunAll() {
    IMAGEDDPO_ASSIGN_OR_RETURN(reference_,
                               SafetensorsFile::Open(folder_ + "/reference.safetensors"));
    if (fs::exists(folder_ + "/text_encoder")) IMAGEDDPO_RETURN_IF_ERROR(CheckText());
    if (fs::exists(folder_ + "/vae")) IMAGEDDPO_RETURN_IF_ERROR(CheckVae());
    if (fs::exists(folder_ + "/unet")) IMAGEDDPO_RETURN_IF_ERROR(CheckUnet());
    return absl::OkStatus();
  }

  std::string Name(const std::string& what) const {
    const std::string name =
        absl::StrCat(fs::path(folder_).filename().string(), options_.fused ? ", our kernels" : "");
    return what.empty() ? name : absl::StrCat(name, " ", what);
  }

  absl::StatusOr<at::Tensor> Input(const std::string& name) const {
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor tensor, reference_->Get(name));
    return tensor.to(options_.device);
  }

  absl::Status Compare(const std::string& part, const std::string& name, const at::Tensor& found) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor expected, reference_->Get(name));
    rows_.push_back({.part = part,
                     .name = Name(name),
                     .precision = options_.precision(),
                     .error = RelativeError(found, expected),
                     .bound = options_.bf16() ? kBfloat16Bound : kFloatBound});
    return absl::OkStatus();
  }

  absl::Status CheckText() {
    IMAGEDDPO_ASSIGN_OR_RETURN(const auto text,
                               TextEncoder::Load(folder_ + "/text_encoder", model_));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor ids_BL, Input("text.ids"));
    return Compare("text_encoder", "text.out", text->Forward(ids_BL));
  }

  absl::Status CheckVae() {
    IMAGEDDPO_ASSIGN_OR_RETURN(const auto vae, Vae::Load(folder_ + "/vae", model_));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor images_BCHW, Input("vae.images"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor latents_BCHW, Input("vae.latents"));
    const Vae::Posterior posterior = vae->Encode(images_BCHW);
    IMAGEDDPO_RETURN_IF_ERROR(Compare("vae", "vae.mean", posterior.mean_BCHW));
    IMAGEDDPO_RETURN_IF_ERROR(Compare("vae", "vae.std", posterior.std_BCHW));
    return Compare("vae", "vae.decoded", vae->Decode(latents_BCHW));
  }

  absl::Status CheckUnet() {
    IMAGEDDPO_ASSIGN_OR_RETURN(const auto unet, Unet::Load(folder_ + "/unet", model_));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor latents_BCHW, Input("unet.latents"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor timesteps_B, Input("unet.timesteps"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor context_BLD, Input("unet.context"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor probe_BCHW, Input("unet.probe"));
    IMAGEDDPO_RETURN_IF_ERROR(
        Compare("unet", "unet.out", unet->Forward(latents_BCHW, timesteps_B, context_BLD)));

    IMAGEDDPO_ASSIGN_OR_RETURN(const Lora lora,
                               Lora::Load(folder_ + "/lora/pytorch_lora_weights.safetensors",
                                          unet->linears(), {.device = options_.device}));
    IMAGEDDPO_RETURN_IF_ERROR(unet->BindLora(lora).status());
    const at::AutoGradMode with_graph(true);
    const at::Tensor out_BCHW = unet->Forward(latents_BCHW, timesteps_B, context_BLD);
    IMAGEDDPO_RETURN_IF_ERROR(Compare("unet", "unet.lora_out", out_BCHW));
    (out_BCHW * probe_BCHW).sum().backward();
    return CompareGradients(lora);
  }

  /// Of all parameters as one vector: alone, a tensor whose gradient all but cancels is noise in
  /// bf16.
  absl::Status CompareGradients(const Lora& lora) {
    std::vector<at::Tensor> found, expected;
    const std::vector<std::string> names = lora.ParameterNames();
    const std::vector<at::Tensor> parameters = lora.Parameters();
    for (size_t i = 0; i < names.size(); ++i) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor gradient,
                                 reference_->Get("unet.grad." + names[i]));
      if (!parameters[i].grad().defined() ||
          !parameters[i].grad().sizes().equals(gradient.sizes())) {
        return absl::InternalError("no gradient of that shape for " + names[i]);
      }
      found.push_back(parameters[i].grad().flatten());
      expected.push_back(gradient.flatten());
    }
    rows_.push_back({.part = "lora",
                     .name = Name("gradients"),
                     .precision = options_.precision(),
                     .error = RelativeError(at::cat(found), at::cat(expected)),
                     .bound = options_.bf16() ? kBfloat16GradientBound : kFloatBound});
    return absl::OkStatus();
  }

  std::string folder_;
  const CheckOptions& options_;
  ModelOptions model_;
  std::shared_ptr<const SafetensorsFile> reference_;
  std::vector<CheckRow> rows_;
};

}  // namespace

std::vector<CheckRow> CheckModels(const std::string& folder, const CheckOptions& options) {
  return ModelsCheck(folder, options).Run();
}

std::vector<CheckRow> CheckStoredModels(const CheckOptions& options) {
  const fs::path root = fs::path(options.root) / "tests/data/parity/models";
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(root)) folders.push_back(entry.path().string());
  std::sort(folders.begin(), folders.end());
  std::vector<CheckRow> rows;
  for (const std::string& folder : folders) {
    const std::vector<CheckRow> more = CheckModels(folder, options);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  return rows;
}

}  // namespace imageddpo

// Writes a random LoRA of ours and what the model computes with it, for live_lora.py to repeat in
// diffusers.
//
//   parity_live_lora MODEL INPUTS OUT_DIR RANK ALPHA
//     INPUTS: latents, timesteps, context. Writes OUT_DIR/pytorch_lora_weights.safetensors and
//     OUT_DIR/ours/outputs.safetensors with noise [B,C,h,w] (the UNet's output) and image [B,3,H,W]
//     (what the VAE makes of the latents less that noise).
//   parity_live_lora MODEL INPUTS OUT_DIR FILE
//     The same with the LoRA in FILE, which is copied in our spelling.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/diffusion/keyed_noise.h"
#include "common/lora/lora.h"
#include "common/sd/unet.h"
#include "common/sd/vae.h"

namespace imageddpo {
namespace {

absl::StatusOr<Lora> MakeLora(const Unet& unet, const std::vector<std::string>& args) {
  if (args.size() == 4) return Lora::Load(args[3], unet.linears());
  const LoraConfig config = {.rank = std::stoll(args[3]),
                             .alpha = std::stod(args[4]),
                             .target_modules = {"to_q", "to_k", "to_v", "to_out.0", "proj_in",
                                                "proj_out", "ff.net.2", "conv_shortcut"}};
  uint64_t index = 0;
  const auto normal = [&](const std::string&, at::IntArrayRef shape) {
    return KeyedNormal({.seed = 5, .purpose = StreamPurpose::kLoraInit, .sample = index++}, shape);
  };
  IMAGEDDPO_ASSIGN_OR_RETURN(Lora lora, Lora::Create(unet.linears(), config, normal));
  const at::Tensor noise =
      KeyedNormal({.seed = 6, .purpose = StreamPurpose::kLoraInit}, {lora.num_parameters()});
  lora.Unflatten(lora.Flatten() + 0.1 * noise);
  return lora;
}

absl::Status Run(const std::vector<std::string>& args) {
  const at::NoGradGuard no_grad;
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto unet, Unet::Load(args[0] + "/unet", {}));
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto vae, Vae::Load(args[0] + "/vae", {}));
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto inputs, SafetensorsFile::Open(args[1]));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor latents, inputs->Get("latents"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor timesteps, inputs->Get("timesteps"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor context, inputs->Get("context"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Lora lora, MakeLora(*unet, args));
  IMAGEDDPO_ASSIGN_OR_RETURN(const int bound, unet->BindLora(lora));
  std::printf("%d modules bound\n", bound);
  const at::Tensor noise = unet->Forward(latents, timesteps, context);
  const at::Tensor image = vae->Decode((latents - noise) / vae->config().scaling_factor);
  std::filesystem::create_directories(args[2] + "/ours");
  IMAGEDDPO_RETURN_IF_ERROR(lora.Save(args[2] + "/pytorch_lora_weights.safetensors"));
  return WriteSafetensors(args[2] + "/ours/outputs.safetensors",
                          {{"noise", noise}, {"image", image}});
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() != 4 && args.size() != 5) {
    std::fprintf(stderr, "usage: parity_live_lora MODEL INPUTS OUT_DIR (RANK ALPHA | FILE)\n");
    return 2;
  }
  const absl::Status status = imageddpo::Run(args);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}

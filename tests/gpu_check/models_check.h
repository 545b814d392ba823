#pragma once

#include <string>
#include <vector>

#include "tests/gpu_check/check_row.h"

namespace imageddpo {

/// Text encoder, VAE, UNet and the LoRA's gradients against what diffusers and transformers gave,
/// in float32 on a CPU.
/// @param folder  of one case, as tests/parity/record_models.py makes them: any of text_encoder/,
///                vae/, unet/, lora/, and reference.safetensors with inputs and outputs.
std::vector<CheckRow> CheckModels(const std::string& folder, const CheckOptions& options);

/// The same for every case below options.root/tests/data/parity/models.
std::vector<CheckRow> CheckStoredModels(const CheckOptions& options);

/// DDIM steps, their log-probabilities and gradients, against diffusers'. The scheduler computes in
/// float32 whatever the model's type.
std::vector<CheckRow> CheckScheduler(const CheckOptions& options);

}  // namespace imageddpo

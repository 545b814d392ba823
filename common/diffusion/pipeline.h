#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "common/diffusion/step_rule.h"
#include "common/lora/denoiser.h"
#include "common/nn/model_options.h"
#include "common/sd/text_encoder.h"
#include "common/sd/vae.h"
#include "common/text/tokenizer.h"

namespace imageddpo {

/// Which parts of a checkpoint a rank needs. A trainer rank replays latents: it needs only the
/// denoiser and the step rule.
struct PipelineParts {
  bool vae = true;
  bool text = true;  ///< Text encoder and tokenizer.
};

/// A Stable Diffusion 1.x/2.x checkpoint in diffusers' layout, frozen.
struct Pipeline {
  std::unique_ptr<Denoiser> denoiser;  ///< The UNet.
  std::unique_ptr<Vae> vae;            ///< Null where not asked for, as are the two below.
  std::unique_ptr<TextEncoder> text_encoder;
  std::unique_ptr<ClipTokenizer> tokenizer;
  std::unique_ptr<StepRule> step_rule;  ///< DDIM.
  int64_t sample_size = 0;              ///< Latent pixels each way that the denoiser was made for.

  /// The side, in pixels, of the images that the model was trained for: sample_size × the VAE's
  /// factor. Needs the VAE.
  int64_t default_resolution() const { return sample_size * vae->config().downscale(); }

  /// Reads `dir`/{unet,scheduler[,vae,text_encoder,tokenizer]} and checks that the parts fit each
  /// other (latent channels, width of the text embedding, vocabulary, tokens).
  /// @param warnings  gets remarks on config values that were read as something else; may be null.
  /// @return NOT_FOUND naming the folder that is missing; INVALID_ARGUMENT naming file and field.
  static absl::StatusOr<Pipeline> Load(const std::string& dir, const ModelOptions& options,
                                       const PipelineParts& parts = {},
                                       std::vector<std::string>* warnings = nullptr);
};

}  // namespace imageddpo

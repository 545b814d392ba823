#include "common/diffusion/pipeline.h"

#include <absl/strings/str_cat.h>

#include <filesystem>
#include <utility>

#include "common/base/status.h"
#include "common/diffusion/ddim_scheduler.h"
#include "common/sd/unet.h"

namespace imageddpo {
namespace {

absl::Status CheckLayout(const std::string& dir, const PipelineParts& parts) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(dir, error)) {
    return absl::NotFoundError(absl::StrCat("model.path: ", dir, " is not a folder"));
  }
  std::vector<std::string> wanted = {"unet", "scheduler"};
  if (parts.vae) wanted.push_back("vae");
  if (parts.text) wanted.insert(wanted.end(), {"text_encoder", "tokenizer"});
  for (const auto& part : wanted) {
    if (!fs::is_directory(fs::path(dir) / part, error)) {
      return absl::NotFoundError(absl::StrCat(
          "model.path: ", dir, " has no folder ", part,
          "/; it must be a Stable Diffusion checkpoint in diffusers' layout (unet, vae, "
          "text_encoder, tokenizer, scheduler)"));
    }
  }
  return absl::OkStatus();
}

absl::Status Mismatch(const std::string& dir, const std::string& left, int64_t left_value,
                      const std::string& right, int64_t right_value) {
  return absl::InvalidArgumentError(absl::StrCat(dir, ": ", left, " is ", left_value, " but ",
                                                 right, " is ", right_value,
                                                 "; the parts are not of one checkpoint"));
}

}  // namespace

absl::StatusOr<Pipeline> Pipeline::Load(const std::string& dir, const ModelOptions& options,
                                        const PipelineParts& parts,
                                        std::vector<std::string>* warnings) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckLayout(dir, parts));
  Pipeline pipeline;
  IMAGEDDPO_ASSIGN_OR_RETURN(DdimConfig ddim, LoadDdimConfig(dir + "/scheduler", warnings));
  IMAGEDDPO_RETURN_IF_ERROR(ddim.Validate());
  IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<Unet> loaded,
                             Unet::Load(dir + "/unet", options, warnings));
  pipeline.step_rule = std::make_unique<DdimScheduler>(std::move(ddim));
  const UnetConfig unet = loaded->config();
  pipeline.denoiser = std::move(loaded);
  pipeline.sample_size = unet.sample_size;
  if (unet.in_channels != unet.out_channels) {
    return Mismatch(dir, "unet in_channels", unet.in_channels, "its out_channels",
                    unet.out_channels);
  }
  if (parts.vae) {
    IMAGEDDPO_ASSIGN_OR_RETURN(pipeline.vae, Vae::Load(dir + "/vae", options, warnings));
    const int64_t latent_channels = pipeline.vae->config().latent_channels;
    if (latent_channels != unet.in_channels) {
      return Mismatch(dir, "vae latent_channels", latent_channels, "unet in_channels",
                      unet.in_channels);
    }
  }
  if (parts.text) {
    IMAGEDDPO_ASSIGN_OR_RETURN(pipeline.tokenizer, ClipTokenizer::Load(dir + "/tokenizer"));
    IMAGEDDPO_ASSIGN_OR_RETURN(pipeline.text_encoder,
                               TextEncoder::Load(dir + "/text_encoder", options, warnings));
    const TextEncoderConfig& text = pipeline.text_encoder->config();
    const ClipTokenizer& tokenizer = *pipeline.tokenizer;
    if (text.hidden_size != unet.cross_attention_dim) {
      return Mismatch(dir, "text_encoder hidden_size", text.hidden_size, "unet cross_attention_dim",
                      unet.cross_attention_dim);
    }
    if (tokenizer.vocabulary_size() > text.vocab_size) {
      return Mismatch(dir, "the tokenizer's vocabulary", tokenizer.vocabulary_size(),
                      "text_encoder vocab_size", text.vocab_size);
    }
    if (tokenizer.max_length() > text.max_position_embeddings) {
      return Mismatch(dir, "the tokenizer's model_max_length", tokenizer.max_length(),
                      "text_encoder max_position_embeddings", text.max_position_embeddings);
    }
  }
  return pipeline;
}

}  // namespace imageddpo

#include "common/sd/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/exp.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/nn/attention.h"
#include "common/nn/resnet.h"
#include "common/nn/weight_map.h"

namespace imageddpo {
namespace {

constexpr double kNormEps = 1e-6;

/// One head of attention over all pixels, added to its input.
struct PixelAttention {
  GroupNorm group_norm;
  Linear to_q, to_k, to_v, to_out;

  static PixelAttention Load(const ModelLoader& at, int64_t channels, int64_t norm_groups);
  at::Tensor Forward(const at::Tensor& x_BCHW) const;
};

/// The VAE's attention exists in two spellings, of which the older may hold 1x1 convolutions for
/// linear layers.
Linear LoadProjection(const ModelLoader& at, const std::string& name, const std::string& old_name,
                      int64_t channels) {
  const bool old = at.weights().Contains(at.Path(absl::StrCat(old_name, ".weight")));
  const ModelLoader layer = at.At(old ? old_name : name);
  Linear linear;
  linear.weight_OI = at.weights().TakeAnyShape(layer.Path("weight"),
                                               {{channels, channels}, {channels, channels, 1, 1}});
  linear.bias_O = layer.Take("bias", {channels});
  linear.lora = std::make_shared<LoraSlot>();
  return linear;
}

PixelAttention PixelAttention::Load(const ModelLoader& at, int64_t channels, int64_t norm_groups) {
  PixelAttention attention;
  attention.group_norm = GroupNorm::Load(at.At("group_norm"), channels, norm_groups, kNormEps);
  attention.to_q = LoadProjection(at, "to_q", "query", channels);
  attention.to_k = LoadProjection(at, "to_k", "key", channels);
  attention.to_v = LoadProjection(at, "to_v", "value", channels);
  attention.to_out = LoadProjection(at, "to_out.0", "proj_attn", channels);
  return attention;
}

at::Tensor PixelAttention::Forward(const at::Tensor& x_BCHW) const {
  const at::Tensor normed_BLC = group_norm.Forward(x_BCHW.flatten(2)).transpose(1, 2);
  const at::Tensor y_BLC = MultiHeadAttention(to_q.Forward(normed_BLC), to_k.Forward(normed_BLC),
                                              to_v.Forward(normed_BLC),
                                              /*heads=*/1, /*causal=*/false);
  return to_out.Forward(y_BLC).transpose(1, 2).reshape(x_BCHW.sizes()) + x_BCHW;
}

struct VaeMidBlock {
  ResnetBlock resnet0, resnet1;
  std::optional<PixelAttention> attention;

  static VaeMidBlock Load(const ModelLoader& at, const VaeConfig& config,
                          const ResnetOptions& options) {
    const int64_t channels = config.block_out_channels.back();
    VaeMidBlock block;
    block.resnet0 = ResnetBlock::Load(at.At("resnets.0"), channels, channels, options);
    if (config.mid_block_add_attention) {
      block.attention =
          PixelAttention::Load(at.At("attentions.0"), channels, config.norm_num_groups);
    }
    block.resnet1 = ResnetBlock::Load(at.At("resnets.1"), channels, channels, options);
    return block;
  }

  at::Tensor Forward(at::Tensor x_BCHW) const {
    x_BCHW = resnet0.Forward(x_BCHW, {});
    if (attention) x_BCHW = attention->Forward(x_BCHW);
    return resnet1.Forward(x_BCHW, {});
  }
};

/// DownEncoderBlock2D or UpDecoderBlock2D.
struct VaeBlock {
  std::vector<ResnetBlock> resnets;
  std::optional<Downsample> downsample;
  std::optional<Upsample> upsample;

  at::Tensor Forward(at::Tensor x_BCHW) const {
    for (const ResnetBlock& resnet : resnets) x_BCHW = resnet.Forward(x_BCHW, {});
    if (downsample) x_BCHW = downsample->Forward(x_BCHW);
    if (upsample) x_BCHW = upsample->Forward(x_BCHW);
    return x_BCHW;
  }
};

VaeBlock LoadResnets(const ModelLoader& at, int64_t in_channels, int64_t out_channels,
                     int64_t layers, const ResnetOptions& options) {
  VaeBlock block;
  for (int64_t i = 0; i < layers; ++i) {
    block.resnets.push_back(ResnetBlock::Load(
        at.At("resnets", i), i == 0 ? in_channels : out_channels, out_channels, options));
  }
  return block;
}

}  // namespace

struct Vae::Impl {
  VaeConfig config;
  ModelOptions options;

  Conv2d encoder_conv_in, encoder_conv_out, decoder_conv_in, decoder_conv_out;
  GroupNorm encoder_norm_out, decoder_norm_out;
  std::vector<VaeBlock> down_blocks, up_blocks;
  VaeMidBlock encoder_mid, decoder_mid;
  std::optional<Conv2d> quant_conv, post_quant_conv;

  void BuildEncoder(const ModelLoader& at, const ResnetOptions& resnet);
  void BuildDecoder(const ModelLoader& at, const ResnetOptions& resnet);
};

void Vae::Impl::BuildEncoder(const ModelLoader& at, const ResnetOptions& resnet) {
  const std::vector<int64_t>& channels = config.block_out_channels;
  encoder_conv_in = Conv2d::Load(at.At("conv_in"), config.in_channels, channels.front(), 3, 1, 1);
  for (size_t i = 0; i < channels.size(); ++i) {
    const ModelLoader block_at = at.At("down_blocks", i);
    VaeBlock block = LoadResnets(block_at, channels[i == 0 ? 0 : i - 1], channels[i],
                                 config.layers_per_block, resnet);
    if (i + 1 < channels.size())
      block.downsample =
          Downsample::Load(block_at.At("downsamplers.0"), channels[i], /*padding=*/0);
    down_blocks.push_back(std::move(block));
  }
  encoder_mid = VaeMidBlock::Load(at.At("mid_block"), config, resnet);
  encoder_norm_out =
      GroupNorm::Load(at.At("conv_norm_out"), channels.back(), config.norm_num_groups, kNormEps);
  encoder_conv_out =
      Conv2d::Load(at.At("conv_out"), channels.back(), 2 * config.latent_channels, 3, 1, 1);
}

void Vae::Impl::BuildDecoder(const ModelLoader& at, const ResnetOptions& resnet) {
  const std::vector<int64_t> channels(config.block_out_channels.rbegin(),
                                      config.block_out_channels.rend());
  decoder_conv_in =
      Conv2d::Load(at.At("conv_in"), config.latent_channels, channels.front(), 3, 1, 1);
  decoder_mid = VaeMidBlock::Load(at.At("mid_block"), config, resnet);
  for (size_t i = 0; i < channels.size(); ++i) {
    const ModelLoader block_at = at.At("up_blocks", i);
    VaeBlock block = LoadResnets(block_at, channels[i == 0 ? 0 : i - 1], channels[i],
                                 config.layers_per_block + 1, resnet);
    if (i + 1 < channels.size())
      block.upsample = Upsample::Load(block_at.At("upsamplers.0"), channels[i]);
    up_blocks.push_back(std::move(block));
  }
  decoder_norm_out =
      GroupNorm::Load(at.At("conv_norm_out"), channels.back(), config.norm_num_groups, kNormEps);
  decoder_conv_out = Conv2d::Load(at.At("conv_out"), channels.back(), config.out_channels, 3, 1, 1);
}

Vae::Vae(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Vae::~Vae() = default;

const VaeConfig& Vae::config() const { return impl_->config; }

absl::StatusOr<std::unique_ptr<Vae>> Vae::Load(const std::string& dir, const ModelOptions& options,
                                               std::vector<std::string>* warnings) {
  auto impl = std::make_unique<Impl>();
  IMAGEDDPO_ASSIGN_OR_RETURN(impl->config,
                             VaeConfig::Load(absl::StrCat(dir, "/config.json"), warnings));
  IMAGEDDPO_ASSIGN_OR_RETURN(WeightMap weights,
                             WeightMap::Open(dir, "diffusion_pytorch_model", options));
  impl->options = options;
  const ResnetOptions resnet = {.time_dim = 0,
                                .norm_groups = impl->config.norm_num_groups,
                                .norm_eps = kNormEps,
                                .act = impl->config.act,
                                .output_scale_factor = 1.0};
  const ModelLoader root(&weights, nullptr);
  impl->BuildEncoder(root.At("encoder"), resnet);
  impl->BuildDecoder(root.At("decoder"), resnet);
  const int64_t latent = impl->config.latent_channels;
  if (impl->config.use_quant_conv)
    impl->quant_conv = Conv2d::Load(root.At("quant_conv"), 2 * latent, 2 * latent, 1);
  if (impl->config.use_post_quant_conv)
    impl->post_quant_conv = Conv2d::Load(root.At("post_quant_conv"), latent, latent, 1);
  IMAGEDDPO_RETURN_IF_ERROR(weights.Finish());
  return std::unique_ptr<Vae>(new Vae(std::move(impl)));
}

Vae::Posterior Vae::Encode(const at::Tensor& images_BCHW) const {
  const Impl& m = *impl_;
  if (m.down_blocks.empty()) throw std::logic_error("Vae::Encode: the encoder was released");
  at::Tensor x_BCHW = m.encoder_conv_in.Forward(images_BCHW.to(m.options.dtype));
  for (const VaeBlock& block : m.down_blocks) x_BCHW = block.Forward(x_BCHW);
  x_BCHW = m.encoder_mid.Forward(x_BCHW);
  // SiLU here and in Decode() whatever act_fn says: AutoencoderKL was built so.
  x_BCHW = m.encoder_norm_out.ForwardActivated(x_BCHW, Activation::kSilu);
  x_BCHW = m.encoder_conv_out.Forward(x_BCHW);
  if (m.quant_conv) x_BCHW = m.quant_conv->Forward(x_BCHW);
  const std::vector<at::Tensor> halves = x_BCHW.to(at::kFloat).chunk(2, 1);
  return {.mean_BCHW = halves[0], .std_BCHW = at::exp(at::clamp(halves[1], -30.0, 20.0) * 0.5)};
}

void Vae::ReleaseEncoder() {
  Impl& m = *impl_;
  m.encoder_conv_in = Conv2d();
  m.down_blocks.clear();
  m.encoder_mid = VaeMidBlock();
  m.encoder_norm_out = GroupNorm();
  m.encoder_conv_out = Conv2d();
  m.quant_conv.reset();
}

at::Tensor Vae::Decode(const at::Tensor& latents_BCHW) const {
  const Impl& m = *impl_;
  at::Tensor x_BCHW = latents_BCHW.to(m.options.dtype);
  if (m.post_quant_conv) x_BCHW = m.post_quant_conv->Forward(x_BCHW);
  x_BCHW = m.decoder_mid.Forward(m.decoder_conv_in.Forward(x_BCHW));
  for (const VaeBlock& block : m.up_blocks) x_BCHW = block.Forward(x_BCHW);
  x_BCHW = m.decoder_norm_out.ForwardActivated(x_BCHW, Activation::kSilu);
  x_BCHW = m.decoder_conv_out.Forward(x_BCHW).to(at::kFloat);
  return m.options.fused ? x_BCHW.contiguous() : x_BCHW;
}

}  // namespace imageddpo

#include "common/sd/unet.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/sin.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/nn/weight_map.h"
#include "common/sd/unet_blocks.h"

namespace imageddpo {
namespace {

/// Sinusoidal embedding of timesteps (Vaswani et al., arXiv:1706.03762, section 3.5, as Ho et al.
/// use it).
/// @return float32 [B, channels]
at::Tensor EmbedTimesteps(const at::Tensor& timesteps_B, int64_t channels,
                          const UnetConfig& config) {
  constexpr double kMaxPeriod = 10000.0;
  const int64_t half = channels / 2;
  const at::Tensor index =
      at::arange(half, at::TensorOptions().dtype(at::kFloat).device(timesteps_B.device()));
  const at::Tensor frequencies =
      at::exp(index * -std::log(kMaxPeriod) / (static_cast<double>(half) - config.freq_shift));
  const at::Tensor angles = timesteps_B.unsqueeze(1).to(at::kFloat) * frequencies.unsqueeze(0);
  const at::Tensor sine = at::sin(angles), cosine = at::cos(angles);
  return config.flip_sin_to_cos ? at::cat({cosine, sine}, 1) : at::cat({sine, cosine}, 1);
}

UnetBlockOptions BlockOptions(const UnetConfig& config, const UnetLevelConfig& level) {
  UnetBlockOptions options;
  options.resnet = {.time_dim = config.time_embedding_dim,
                    .norm_groups = config.norm_num_groups,
                    .norm_eps = config.norm_eps,
                    .act = config.act,
                    .output_scale_factor = 1.0};
  options.transformer = {.channels = level.channels,
                         .heads = level.num_heads,
                         .layers = 0,
                         .cross_attention_dim = level.cross_attention_dim,
                         .norm_groups = config.norm_num_groups,
                         .use_linear_projection = config.use_linear_projection,
                         .only_cross_attention = level.only_cross_attention,
                         .upcast_attention = config.upcast_attention};
  return options;
}

}  // namespace

struct Unet::Impl {
  UnetConfig config;

  Linear time_linear1, time_linear2;
  Conv2d conv_in, conv_out;
  GroupNorm conv_norm_out;
  std::vector<DownBlock> down_blocks;
  std::optional<MidBlock> mid_block;
  std::vector<UpBlock> up_blocks;
  std::vector<Attention*> text_attentions;  // In the order of their text_index.

  void Build(const ModelLoader& root);
  void ListTextAttentions();
};

void Unet::Impl::Build(const ModelLoader& root) {
  const std::vector<UnetLevelConfig>& levels = config.levels;
  const int64_t outer = levels.front().channels;
  conv_in = Conv2d::Load(root.At("conv_in"), config.in_channels, outer, 3, 1, 1);
  time_linear1 = Linear::Load(root.At("time_embedding.linear_1"), outer, config.time_embedding_dim);
  time_linear2 = Linear::Load(root.At("time_embedding.linear_2"), config.time_embedding_dim,
                              config.time_embedding_dim);

  for (size_t i = 0; i < levels.size(); ++i) {
    UnetBlockOptions block = BlockOptions(config, levels[i]);
    if (levels[i].down_attention) block.transformer_layers = levels[i].down_transformer_layers;
    std::optional<int64_t> padding;
    if (i + 1 < levels.size()) padding = config.downsample_padding;
    down_blocks.push_back(DownBlock::Load(root.At("down_blocks", i),
                                          levels[i == 0 ? 0 : i - 1].channels, levels[i].channels,
                                          levels[i].layers, padding, block));
  }

  if (config.mid_block) {
    UnetBlockOptions block = BlockOptions(config, levels.back());
    block.resnet.output_scale_factor = config.mid_block_scale_factor;
    block.transformer.only_cross_attention = false;  // The mid block always attends to itself, too.
    block.transformer_layers = {config.mid_transformer_layers};
    mid_block = MidBlock::Load(root.At("mid_block"), levels.back().channels, block);
  }

  for (size_t i = 0; i < levels.size(); ++i) {
    const size_t j = levels.size() - 1 - i;
    UnetBlockOptions block = BlockOptions(config, levels[j]);
    if (config.up_attention[i]) block.transformer_layers = levels[j].up_transformer_layers;
    const int64_t below = levels[std::min(j + 1, levels.size() - 1)].channels;
    const int64_t above = levels[j == 0 ? 0 : j - 1].channels;
    up_blocks.push_back(UpBlock::Load(root.At("up_blocks", i), below, levels[j].channels, above,
                                      levels[j].layers + 1,
                                      /*upsample=*/j > 0, block));
  }
  conv_norm_out =
      GroupNorm::Load(root.At("conv_norm_out"), outer, config.norm_num_groups, config.norm_eps);
  conv_out = Conv2d::Load(root.At("conv_out"), outer, config.out_channels, 3, 1, 1);
  ListTextAttentions();
}

void Unet::Impl::ListTextAttentions() {
  const auto list = [this](std::vector<Transformer2d>& transformers) {
    for (Transformer2d& transformer : transformers) {
      transformer.ListTextAttentions(&text_attentions);
    }
  };
  for (DownBlock& block : down_blocks) list(block.attentions);
  if (mid_block) mid_block->attention.ListTextAttentions(&text_attentions);
  for (UpBlock& block : up_blocks) list(block.attentions);
  for (size_t i = 0; i < text_attentions.size(); ++i) text_attentions[i]->text_index = i;
}

Unet::Unet(std::unique_ptr<Impl> impl, std::vector<NamedLinear> linears,
           const ModelOptions& options)
    : Denoiser(std::move(linears), options), impl_(std::move(impl)) {}
Unet::~Unet() = default;

const UnetConfig& Unet::config() const { return impl_->config; }

absl::StatusOr<std::unique_ptr<Unet>> Unet::Load(const std::string& dir,
                                                 const ModelOptions& options,
                                                 std::vector<std::string>* warnings) {
  auto impl = std::make_unique<Impl>();
  IMAGEDDPO_ASSIGN_OR_RETURN(impl->config,
                             UnetConfig::Load(absl::StrCat(dir, "/config.json"), warnings));
  IMAGEDDPO_ASSIGN_OR_RETURN(WeightMap weights,
                             WeightMap::Open(dir, "diffusion_pytorch_model", options));
  std::vector<NamedLinear> linears;
  impl->Build(ModelLoader(&weights, &linears));
  IMAGEDDPO_RETURN_IF_ERROR(weights.Finish());
  return std::unique_ptr<Unet>(new Unet(std::move(impl), std::move(linears), options));
}

ProjectedText Unet::ProjectText(const at::Tensor& context_BLD) const {
  const at::Tensor text_BLD = context_BLD.to(options().dtype).contiguous();
  ProjectedText projected;
  for (const Attention* attention : impl_->text_attentions) {
    projected.Add(attention->Project(text_BLD));
  }
  return projected;
}

at::Tensor Unet::Forward(const at::Tensor& latents_BCHW, const at::Tensor& timesteps_B,
                         const ProjectedText& text) const {
  const Impl& m = *impl_;
  const at::ScalarType dtype = options().dtype;
  const int64_t outer = m.config.levels.front().channels;
  const at::Tensor time = EmbedTimesteps(timesteps_B, outer, m.config).to(dtype);
  const UnetContext context = {
      .time_BT = m.time_linear2.Forward(Activate(m.config.act, m.time_linear1.Forward(time))),
      .text = &text,
      .recomputed_text = options().recompute && NeedsGraph()
                             ? std::make_shared<const ProjectedText>(text)
                             : nullptr};

  at::Tensor x_BCHW = m.config.center_input_sample ? latents_BCHW * 2 - 1.0 : latents_BCHW;
  x_BCHW = m.conv_in.Forward(x_BCHW.to(dtype));
  std::vector<at::Tensor> skips = {x_BCHW};
  for (const DownBlock& block : m.down_blocks) x_BCHW = block.Forward(x_BCHW, context, skips);
  if (m.mid_block) x_BCHW = m.mid_block->Forward(x_BCHW, context, skips);
  for (const UpBlock& block : m.up_blocks) x_BCHW = block.Forward(x_BCHW, context, skips);
  x_BCHW = m.conv_out.Forward(m.conv_norm_out.ForwardActivated(x_BCHW, m.config.act));
  return options().fused ? x_BCHW.to(at::kFloat).contiguous() : x_BCHW.to(at::kFloat);
}

}  // namespace imageddpo

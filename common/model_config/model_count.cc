#include "common/model_config/model_count.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/model_config/layer_counter.h"

namespace imageddpo {
namespace {

/// How a level's transformers look; the same for all of a level.
struct TransformerShape {
  int64_t channels = 0, heads = 1, context = 0, tokens = 0;
  bool only_cross = false;
};

/// @param shape    where it looks at the text; null: where it looks at its own pixels.
void CountAttention(LayerCounter* net, const std::string& path, int64_t inner, int64_t positions,
                    const TransformerShape* shape) {
  const bool is_text = shape != nullptr;
  const int64_t context = is_text ? shape->context : inner;
  const int64_t keys = is_text ? shape->tokens : positions;
  net->Linear(path + ".to_q", inner, inner, positions, {.bias = false});
  net->Linear(path + ".to_k", context, inner, keys, {.bias = false, .embedded = is_text});
  net->Linear(path + ".to_v", context, inner, keys, {.bias = false, .embedded = is_text});
  net->Attention(positions, keys, inner);
  net->Linear(path + ".to_out.0", inner, inner, positions);
}

/// @param n  positions.
void CountTransformer(LayerCounter* net, const TransformerShape& shape, int64_t layers, int64_t n) {
  constexpr int64_t kExpansion = 4;
  const int64_t channels = shape.channels, inner = channels / shape.heads * shape.heads;
  net->Norm(channels, n);
  net->Linear("proj_in", channels, inner, n);  // Or a 1×1 convolution, which is the same.
  for (int64_t i = 0; i < layers; ++i) {
    const std::string block = absl::StrCat("transformer_blocks.", i);
    net->Norm(inner, n);
    CountAttention(net, block + ".attn1", inner, n, shape.only_cross ? &shape : nullptr);
    net->Norm(inner, n);
    CountAttention(net, block + ".attn2", inner, n, &shape);
    net->Norm(inner, n);
    net->Linear(block + ".ff.net.0.proj", inner, 2 * kExpansion * inner, n);
    net->Pointwise(kExpansion * inner, n);
    net->Linear(block + ".ff.net.2", kExpansion * inner, inner, n);
  }
  net->Linear("proj_out", inner, channels, n);
}

TransformerShape ShapeOf(const UnetLevelConfig& level, int64_t tokens) {
  return {.channels = level.channels,
          .heads = level.num_heads,
          .context = level.cross_attention_dim,
          .tokens = tokens,
          .only_cross = level.only_cross_attention};
}

void CountPixelAttention(LayerCounter* net, int64_t channels, int64_t n) {
  net->Norm(channels, n);
  for (const char* path : {"to_q", "to_k", "to_v"}) net->Linear(path, channels, channels, n);
  net->Attention(n, n, channels);
  net->Linear("to_out.0", channels, channels, n);
}

void CountVaeMid(LayerCounter* net, const VaeConfig& config, int64_t n) {
  const int64_t channels = config.block_out_channels.back();
  net->Resnet(channels, channels, 0, n);
  if (config.mid_block_add_attention) CountPixelAttention(net, channels, n);
  net->Resnet(channels, channels, 0, n);
}

}  // namespace

PassCount CountUnet(const UnetConfig& config, PictureSize latent, int64_t tokens,
                    const AdapterTargets& targets) {
  LayerCounter net(&targets);
  const std::vector<UnetLevelConfig>& levels = config.levels;
  const int64_t outer = levels.front().channels, time = config.time_embedding_dim;
  net.Linear("time_embedding.linear_1", outer, time, 1, {.embedded = true});
  net.Linear("time_embedding.linear_2", time, time, 1);
  net.Conv(config.in_channels, outer, 3, latent.area());

  std::vector<PictureSize> sizes = {latent};  // Of each level; odd ones are halved upwards.
  std::vector<int64_t> skips = {outer};
  net.Keep(outer, latent.area());
  int64_t channels = outer;
  for (size_t i = 0; i < levels.size(); ++i) {
    const UnetLevelConfig& level = levels[i];
    const int64_t n = sizes.back().area();
    for (int64_t layer = 0; layer < level.layers; ++layer) {
      net.BeginPart(channels, n);
      net.Resnet(channels, level.channels, time, n);
      channels = level.channels;
      if (level.down_attention) {
        CountTransformer(&net, ShapeOf(level, tokens), level.down_transformer_layers[layer], n);
      }
      net.EndPart();
      skips.push_back(channels);
      net.Keep(channels, n);
    }
    if (i + 1 == levels.size()) break;
    sizes.push_back({(sizes.back().width + 1) / 2, (sizes.back().height + 1) / 2});
    net.Conv(channels, channels, 3, sizes.back().area());
    skips.push_back(channels);
    net.Keep(channels, sizes.back().area());
  }
  if (config.mid_block) {
    const int64_t n = sizes.back().area();
    TransformerShape shape = ShapeOf(levels.back(), tokens);
    shape.only_cross = false;
    net.BeginPart(channels, n);
    net.Resnet(channels, channels, time, n);
    CountTransformer(&net, shape, config.mid_transformer_layers, n);
    net.EndPart();
    net.BeginPart(channels, n);
    net.Resnet(channels, channels, time, n);
    net.EndPart();
  }
  for (size_t i = 0; i < levels.size(); ++i) {
    const size_t j = levels.size() - 1 - i;
    const UnetLevelConfig& level = levels[j];
    for (int64_t layer = 0; layer <= level.layers; ++layer) {
      const int64_t n = sizes[j].area();
      net.BeginPart(channels, n);                 // The skip is another layer's input.
      net.Pointwise(channels + skips.back(), n);  // The two, side by side.
      net.Resnet(channels + skips.back(), level.channels, time, n);
      skips.pop_back();
      channels = level.channels;
      if (config.up_attention[i]) {
        CountTransformer(&net, ShapeOf(level, tokens), level.up_transformer_layers[layer], n);
      }
      if (layer == level.layers && j > 0) net.Conv(channels, channels, 3, sizes[j - 1].area());
      net.EndPart();
    }
  }
  net.Norm(outer, latent.area());
  net.Pointwise(outer, latent.area());
  net.Conv(outer, config.out_channels, 3, latent.area());
  return net.count();
}

PassCount CountVaeEncoder(const VaeConfig& config, PictureSize image) {
  LayerCounter net;
  PictureSize size = image;
  int64_t channels = config.block_out_channels.front();
  net.Conv(config.in_channels, channels, 3, size.area());
  for (size_t i = 0; i < config.block_out_channels.size(); ++i) {
    for (int64_t layer = 0; layer < config.layers_per_block; ++layer) {
      net.Resnet(channels, config.block_out_channels[i], 0, size.area());
      channels = config.block_out_channels[i];
    }
    if (i + 1 == config.block_out_channels.size()) break;
    size = size.DividedBy(2);
    net.Conv(channels, channels, 3, size.area());
  }
  CountVaeMid(&net, config, size.area());
  net.Norm(channels, size.area());
  net.Pointwise(channels, size.area());
  const int64_t moments = 2 * config.latent_channels;
  net.Conv(channels, moments, 3, size.area());
  if (config.use_quant_conv) net.Conv(moments, moments, 1, size.area());
  return net.count();
}

PassCount CountVaeDecoder(const VaeConfig& config, PictureSize image) {
  LayerCounter net;
  const int64_t latent = config.latent_channels;
  PictureSize size = image.DividedBy(config.downscale());
  int64_t channels = config.block_out_channels.back();
  if (config.use_post_quant_conv) net.Conv(latent, latent, 1, size.area());
  net.Conv(latent, channels, 3, size.area());
  CountVaeMid(&net, config, size.area());
  for (size_t i = config.block_out_channels.size(); i-- > 0;) {
    for (int64_t layer = 0; layer <= config.layers_per_block; ++layer) {
      net.Resnet(channels, config.block_out_channels[i], 0, size.area());
      channels = config.block_out_channels[i];
    }
    if (i == 0) break;
    size = {size.width * 2, size.height * 2};
    net.Conv(channels, channels, 3, size.area());
  }
  net.Norm(channels, size.area());
  net.Pointwise(channels, size.area());
  net.Conv(channels, config.out_channels, 3, size.area());
  return net.count();
}

PassCount CountTextEncoder(const TextEncoderConfig& config, int64_t tokens) {
  LayerCounter net;
  const int64_t width = config.hidden_size;
  net.Parameters((config.vocab_size + config.max_position_embeddings) * width);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    net.Norm(width, tokens);
    for (const char* path : {"q_proj", "k_proj", "v_proj"}) net.Linear(path, width, width, tokens);
    net.Attention(tokens, tokens, width);
    net.Linear("out_proj", width, width, tokens);
    net.Norm(width, tokens);
    net.Linear("fc1", width, config.intermediate_size, tokens);
    net.Pointwise(config.intermediate_size, tokens);
    net.Linear("fc2", config.intermediate_size, width, tokens);
  }
  net.Norm(width, tokens);
  return net.count();
}

absl::StatusOr<ModelCount> CountModel(const std::string& dir, PictureSize image,
                                      const AdapterTargets& targets) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const UnetConfig unet, UnetConfig::Load(dir + "/unet/config.json"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const VaeConfig vae, VaeConfig::Load(dir + "/vae/config.json"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const TextEncoderConfig text,
                             TextEncoderConfig::Load(dir + "/text_encoder/config.json"));
  ModelCount count;
  const int64_t own_side = unet.sample_size * vae.downscale();
  count.image = image.given() ? image : PictureSize{own_side, own_side};
  if (count.image.width < 1 || count.image.height < 1 ||
      !count.image.IsMultipleOf(vae.downscale())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "images of ", count.image.width, "x", count.image.height, " pixels do not fit ", dir,
        "; set `data.resolution` to a multiple of ", vae.downscale()));
  }
  count.latent_channels = vae.latent_channels;
  count.latent = count.image.DividedBy(vae.downscale());
  count.context_tokens = text.max_position_embeddings;
  count.context_width = text.hidden_size;
  count.unet = CountUnet(unet, count.latent, count.context_tokens, targets);
  count.encoder = CountVaeEncoder(vae, count.image);
  count.decoder = CountVaeDecoder(vae, count.image);
  count.text = CountTextEncoder(text, count.context_tokens);
  return count;
}

}  // namespace imageddpo

#include "common/diffusion/flops.h"

#include <algorithm>
#include <iterator>

namespace imageddpo {
namespace {

/// Adds up layer after layer, in the order of a forward pass.
class Counter {
 public:
  explicit Counter(LoraShape lora) : lora_(std::move(lora)) {}

  /// @param frozen_input  the input needs no gradient: an embedding.
  void AddLinear(const std::string& name, int64_t in, int64_t out, int64_t positions,
                 bool frozen_input = false) {
    const double layer = 2.0 * static_cast<double>(in) * static_cast<double>(out * positions);
    const bool to_input = reached_ && !frozen_input;
    flops_.forward += layer;
    if (to_input) flops_.backward += layer;
    if (!Trains(name)) return;
    const auto branch = 2.0 * static_cast<double>(lora_.rank * positions);
    const auto down = branch * static_cast<double>(in), up = branch * static_cast<double>(out);
    flops_.forward += down + up;
    flops_.backward += down + up;                   // To the two factors.
    flops_.backward += up + (to_input ? down : 0);  // Through them.
    reached_ = true;
  }

  void AddConv(int64_t in, int64_t out, int64_t kernel, int64_t positions) {
    const double layer =
        2.0 * static_cast<double>(in * kernel * kernel) * static_cast<double>(out * positions);
    flops_.forward += layer;
    if (reached_) flops_.backward += layer;
  }

  /// Softmax(q k^T) v: two products, and four in the backward pass.
  void AddAttention(int64_t queries, int64_t keys, int64_t channels) {
    const double products = 4.0 * static_cast<double>(queries * keys * channels);
    flops_.forward += products;
    if (reached_) flops_.backward += 2 * products;
  }

  const UnetFlops& flops() const { return flops_; }

 private:
  bool Trains(const std::string& name) const {
    return lora_.rank > 0 && std::find(lora_.target_modules.begin(), lora_.target_modules.end(),
                                       name) != lora_.target_modules.end();
  }

  LoraShape lora_;
  UnetFlops flops_;
  bool reached_ = false;  ///< A layer before this one trains.
};

struct Place {
  int64_t height, width;
  int64_t positions() const { return height * width; }
  Place Halved() const { return {(height + 1) / 2, (width + 1) / 2}; }
};

void AddResnet(Counter& count, int64_t in, int64_t out, int64_t time_dim, Place place) {
  count.AddConv(in, out, 3, place.positions());
  if (time_dim > 0) count.AddLinear("time_emb_proj", time_dim, out, 1, /*frozen_input=*/true);
  count.AddConv(out, out, 3, place.positions());
  if (in != out) count.AddConv(in, out, 1, place.positions());
}

void AddTransformer(Counter& count, const UnetConfig& config, const UnetLevelConfig& level,
                    int64_t layers, Place place, int64_t tokens, bool only_cross_attention) {
  const int64_t positions = place.positions();
  const int64_t inner = level.channels / level.num_heads * level.num_heads;
  const auto attend = [&](bool to_text) {
    const int64_t source = to_text ? level.cross_attention_dim : inner;
    const int64_t keys = to_text ? tokens : positions;
    count.AddLinear("to_q", inner, inner, positions);
    count.AddLinear("to_k", source, inner, keys, to_text);
    count.AddLinear("to_v", source, inner, keys, to_text);
    count.AddAttention(positions, keys, inner);
    count.AddLinear("to_out.0", inner, inner, positions);
  };
  const auto project = [&](const std::string& name, int64_t in, int64_t out) {
    if (config.use_linear_projection) {
      count.AddLinear(name, in, out, positions);
    } else {
      count.AddConv(in, out, 1, positions);
    }
  };
  project("proj_in", level.channels, inner);
  for (int64_t layer = 0; layer < layers; ++layer) {
    attend(only_cross_attention);
    attend(/*to_text=*/true);
    count.AddLinear("net.0.proj", inner, 8 * inner, positions);
    count.AddLinear("net.2", 4 * inner, inner, positions);
  }
  project("proj_out", inner, level.channels);
}

}  // namespace

UnetFlops CountUnetFlops(const UnetConfig& config, int64_t height, int64_t width, int64_t tokens,
                         const LoraShape& lora) {
  Counter count(lora);
  const std::vector<UnetLevelConfig>& levels = config.levels;
  const int64_t outer = levels.front().channels, time_dim = config.time_embedding_dim;
  std::vector<Place> places = {{height, width}};
  count.AddLinear("linear_1", outer, time_dim, 1, /*frozen_input=*/true);
  count.AddLinear("linear_2", time_dim, time_dim, 1);
  count.AddConv(config.in_channels, outer, 3, height * width);
  std::vector<int64_t> skips = {outer};
  int64_t channels = outer;
  for (size_t i = 0; i < levels.size(); ++i) {
    const UnetLevelConfig& level = levels[i];
    for (int64_t layer = 0; layer < level.layers; ++layer) {
      AddResnet(count, channels, level.channels, time_dim, places[i]);
      channels = level.channels;
      if (level.down_attention) {
        AddTransformer(count, config, level, level.down_transformer_layers[layer], places[i],
                       tokens, level.only_cross_attention);
      }
      skips.push_back(channels);
    }
    if (i + 1 == levels.size()) break;
    places.push_back(places[i].Halved());
    count.AddConv(channels, channels, 3, places[i + 1].positions());
    skips.push_back(channels);
  }
  if (config.mid_block) {
    AddResnet(count, channels, channels, time_dim, places.back());
    AddTransformer(count, config, levels.back(), config.mid_transformer_layers, places.back(),
                   tokens, /*only_cross_attention=*/false);
    AddResnet(count, channels, channels, time_dim, places.back());
  }
  for (size_t up = 0; up < levels.size(); ++up) {
    const size_t i = levels.size() - 1 - up;
    const UnetLevelConfig& level = levels[i];
    for (int64_t layer = 0; layer <= level.layers; ++layer) {
      AddResnet(count, channels + skips.back(), level.channels, time_dim, places[i]);
      skips.pop_back();
      channels = level.channels;
      if (config.up_attention[up]) {
        AddTransformer(count, config, level, level.up_transformer_layers[layer], places[i], tokens,
                       level.only_cross_attention);
      }
    }
    if (i > 0) count.AddConv(channels, channels, 3, places[i - 1].positions());
  }
  count.AddConv(channels, config.out_channels, 3, height * width);
  return count.flops();
}

double CountVaeDecodeFlops(const VaeConfig& config, int64_t height, int64_t width) {
  Counter count({});
  Place place = {height, width};
  int64_t channels = config.block_out_channels.back();
  const int64_t latent = config.latent_channels;
  if (config.use_post_quant_conv) count.AddConv(latent, latent, 1, place.positions());
  count.AddConv(latent, channels, 3, place.positions());
  AddResnet(count, channels, channels, 0, place);
  if (config.mid_block_add_attention) {
    for (const char* name : {"to_q", "to_k", "to_v", "to_out.0"}) {
      count.AddLinear(name, channels, channels, place.positions());
    }
    count.AddAttention(place.positions(), place.positions(), channels);
  }
  AddResnet(count, channels, channels, 0, place);
  for (auto out = config.block_out_channels.rbegin(); out != config.block_out_channels.rend();
       ++out) {
    for (int64_t layer = 0; layer <= config.layers_per_block; ++layer) {
      AddResnet(count, channels, *out, 0, place);
      channels = *out;
    }
    if (std::next(out) == config.block_out_channels.rend()) break;
    place = {2 * place.height, 2 * place.width};
    count.AddConv(channels, channels, 3, place.positions());
  }
  count.AddConv(channels, config.out_channels, 3, place.positions());
  return count.flops().forward;
}

}  // namespace imageddpo

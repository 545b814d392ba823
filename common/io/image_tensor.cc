#include "common/io/image_tensor.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace imageddpo {

at::Tensor ImageToTensor(const Image& image) {
  at::Tensor tensor_CHW = at::empty({3, image.height, image.width}, at::kFloat);
  auto* out = static_cast<float*>(tensor_CHW.data_ptr());
  const size_t plane = static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t pixel = 0; pixel < plane; ++pixel) {
      out[channel * plane + pixel] = static_cast<float>(image.rgb.at(pixel * 3 + channel)) / 255.0F;
    }
  }
  return tensor_CHW;
}

Image TensorToImage(const at::Tensor& image_CHW) {
  if (image_CHW.dim() != 3 || image_CHW.size(0) != 3 || !image_CHW.is_floating_point()) {
    throw std::invalid_argument(
        "TensorToImage: expected a floating-point tensor of shape [3, H, W]");
  }
  const at::Tensor contiguous = image_CHW.detach().to(at::kCPU, at::kFloat).contiguous();
  const auto* values = static_cast<const float*>(contiguous.const_data_ptr());
  Image image;
  image.height = static_cast<int>(contiguous.size(1));
  image.width = static_cast<int>(contiguous.size(2));
  const size_t plane = static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
  image.rgb.resize(plane * 3);
  for (size_t channel = 0; channel < 3; ++channel) {
    for (size_t pixel = 0; pixel < plane; ++pixel) {
      const float value = values[channel * plane + pixel];
      const float byte =
          std::isnan(value) ? 0.0F : std::nearbyint(std::clamp(value, 0.0F, 1.0F) * 255.0F);
      image.rgb[pixel * 3 + channel] = static_cast<uint8_t>(byte);
    }
  }
  return image;
}

}  // namespace imageddpo

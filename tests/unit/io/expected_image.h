#pragma once

#include <stdexcept>
#include <string>

#include "common/io/image.h"
#include "common/io/safetensors.h"

namespace imageddpo {

/// An image [H, W, 3] uint8 that tests/data/make_images.py stored, of a file in any folder.
inline Image ExpectedImage(const std::string& name) {
  const auto file = SafetensorsFile::Open("tests/data/images/expected.safetensors");
  if (!file.ok()) throw std::runtime_error(std::string(file.status().message()));
  const at::Tensor pixels = (*file)->Get(name.substr(name.rfind('/') + 1)).value();
  const auto* data = pixels.const_data_ptr<uint8_t>();
  return {static_cast<int>(pixels.size(1)), static_cast<int>(pixels.size(0)),
          std::vector<uint8_t>(data, data + pixels.numel())};
}

}  // namespace imageddpo

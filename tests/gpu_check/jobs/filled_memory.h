#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace imageddpo {

/// While one exists, the device has no memory left: on a GPU, because tensors hold it; on a CPU,
/// because the allocator refuses every block of some size.
class FilledMemory {
 public:
  explicit FilledMemory(at::Device device);
  ~FilledMemory();
  FilledMemory(const FilledMemory&) = delete;
  FilledMemory& operator=(const FilledMemory&) = delete;

 private:
  const at::Device device_;
  std::vector<at::Tensor> held_;
};

}  // namespace imageddpo

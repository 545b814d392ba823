#include "tests/testing/device/host_views.h"

#include <ATen/ops/empty_strided.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <cstring>

#include "tests/testing/device/device_memory.h"

namespace imageddpo {
namespace {

/// From the first element to the last one, gaps of the strides included.
size_t SpanBytes(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return 0;
  int64_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  return static_cast<size_t>(last + 1) * tensor.itemsize();
}

}  // namespace

HostViews::Shared& HostViews::SharedOf(const c10::Storage& on_device) {
  for (Shared& shared : storages_) {
    if (shared.on_device.is_alias_of(on_device)) return shared;
  }
  void* const bytes = DeviceMemory::Bytes(on_device.data());
  storages_.push_back(
      {.on_device = on_device,
       .on_host = c10::Storage(c10::Storage::use_byte_size_t(), on_device.nbytes(),
                               c10::DataPtr(bytes, c10::kCPU), c10::GetCPUAllocator(),
                               /*resizable=*/true),
       .bytes = bytes});
  return storages_.back();
}

at::Tensor HostViews::Of(const at::Tensor& on_device) {
  for (const Pair& pair : pairs_) {
    if (pair.on_device.is_same(on_device)) return pair.on_host;
  }
  at::Tensor on_host = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(SharedOf(on_device.storage()).on_host),
      c10::DispatchKeySet(c10::DispatchKey::CPU), on_device.dtype());
  c10::TensorImpl* const impl = on_host.unsafeGetTensorImpl();
  impl->set_storage_offset(on_device.storage_offset());
  impl->set_sizes_and_strides(on_device.sizes(), on_device.strides());
  pairs_.push_back({on_device, on_host});
  return on_host;
}

at::Tensor HostViews::ToDevice(const at::Tensor& result, c10::Device device) {
  if (!result.defined()) return result;
  for (const Pair& pair : pairs_) {
    if (pair.on_host.is_same(result)) return pair.on_device;
  }
  for (const Pair& pair : pairs_) {
    if (pair.on_host.is_alias_of(result)) {
      return pair.on_device.as_strided(result.sizes(), result.strides(), result.storage_offset());
    }
  }
  at::Tensor on_device = at::empty_strided(result.sizes(), result.strides(),
                                           result.options().device(device).pinned_memory(false));
  if (result.numel() > 0) {
    std::memcpy(DeviceMemory::Bytes(on_device.const_data_ptr()), result.const_data_ptr(),
                SpanBytes(result));
  }
  return on_device;
}

void HostViews::TakeSizes() {
  for (const Pair& pair : pairs_) {
    const Shared& shared = SharedOf(pair.on_device.storage());
    const bool moved = shared.on_host.data() != shared.bytes;
    if (!moved && pair.on_host.sizes() == pair.on_device.sizes() &&
        pair.on_host.strides() == pair.on_device.strides()) {
      continue;
    }
    GrowStorage(pair.on_device.storage(), shared.on_host.nbytes());
    if (moved) {
      std::memcpy(DeviceMemory::Bytes(pair.on_device.storage().data()), shared.on_host.data(),
                  shared.on_host.nbytes());
    }
    pair.on_device.unsafeGetTensorImpl()->set_sizes_and_strides(pair.on_host.sizes(),
                                                                pair.on_host.strides());
  }
}

std::vector<MemoryRange> HostViews::Ranges() const {
  std::vector<MemoryRange> ranges;
  for (const Shared& shared : storages_) {
    ranges.push_back(
        {static_cast<const char*>(shared.on_device.data()), shared.on_device.nbytes()});
  }
  return ranges;
}

void GrowStorage(const c10::Storage& storage, size_t size_bytes) {
  c10::StorageImpl* const impl = storage.unsafeGetStorageImpl();
  if (impl->nbytes() >= size_bytes) return;
  const c10::DeviceGuard guard(impl->device());
  c10::DataPtr larger = impl->allocator()->allocate(size_bytes);
  if (impl->nbytes() > 0) {
    std::memcpy(DeviceMemory::Bytes(larger.get()), DeviceMemory::Bytes(impl->data()),
                impl->nbytes());
  }
  impl->set_data_ptr_noswap(std::move(larger));
  impl->set_nbytes(size_bytes);
}

}  // namespace imageddpo

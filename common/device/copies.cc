#include "common/device/copies.h"

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

namespace imageddpo {
namespace {

/// Pinned for copies to and from the current device.
at::Tensor EmptyPinned(const at::Tensor& like) {
  return at::Tensor(at::detail::empty_generic(
      like.sizes(), at::globalContext().getPinnedMemoryAllocator(like.device().type()),
      c10::DispatchKeySet(c10::DispatchKey::CPU), like.scalar_type(), std::nullopt));
}

}  // namespace

at::Tensor MoveTo(const at::Tensor& tensor, at::Device device) {
  if (!tensor.is_cpu() && device.is_cpu()) return ReadTogether(std::vector{tensor}).front();
  if (!tensor.is_cpu() || device.is_cpu() || tensor.numel() == 0) return tensor.to(device);
  const c10::DeviceGuard guard(device);
  return tensor.pin_memory().to(device, /*non_blocking=*/true);
}

std::vector<at::Tensor> ReadTogether(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> on_host;
  std::vector<at::Tensor> sources;  // Of the copies under way.
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.is_cpu()) {
      on_host.push_back(tensor);
      continue;
    }
    const c10::DeviceGuard guard(tensor.device());
    sources.push_back(tensor.detach().contiguous());
    on_host.push_back(EmptyPinned(sources.back()));
    on_host.back().copy_(sources.back(), /*non_blocking=*/true);
  }
  if (sources.empty()) return on_host;
  const at::Device device = sources.front().device();
  const c10::impl::VirtualGuardImpl impl(device.type());
  impl.getStream(device).synchronize();
  return on_host;
}

std::map<std::string, at::Tensor> ReadTogether(const std::map<std::string, at::Tensor>& tensors) {
  std::vector<at::Tensor> values;
  for (const auto& [name, tensor] : tensors) values.push_back(tensor);
  values = ReadTogether(values);
  std::map<std::string, at::Tensor> on_host;
  size_t next = 0;
  for (const auto& [name, tensor] : tensors) on_host[name] = values[next++];
  return on_host;
}

}  // namespace imageddpo

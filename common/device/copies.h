#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace imageddpo {

/// Copies between the host and the device that a rank computes on. A blocking copy makes the host
/// wait for everything that the device has been asked for, and the device then waits for the host:
/// a rank that does it in every step leaves the device idle most of the time. So nothing here waits
/// on the way to the device, and on the way back the host waits once for any number of tensors.
/// Pinned memory is taken from libtorch's allocator, which keeps it until the copies have run.

/// The values on `device`; the tensor itself where it is there already. From the host to a device
/// this does not wait, and a source that is not pinned may be changed as soon as it returns; from a
/// device to the host it waits once.
at::Tensor MoveTo(const at::Tensor& tensor, at::Device device);

/// The values of all tensors on the host, in their order: those of the host themselves, of the
/// others contiguous copies. Waits once, or not at all where all are on the host. All that are not
/// must be on one device; undefined tensors stay undefined.
std::vector<at::Tensor> ReadTogether(const std::vector<at::Tensor>& tensors);

/// The same for named tensors.
std::map<std::string, at::Tensor> ReadTogether(const std::map<std::string, at::Tensor>& tensors);

}  // namespace imageddpo

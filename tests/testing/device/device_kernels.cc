// The kernels: libtorch's of the CPU, called on the device's bytes by one function for all of them,
// and the few that the dispatcher asks of every device: memory, views, copies, convolutions.

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/testing/device/device_state.h"
#include "tests/testing/device/host_views.h"

namespace imageddpo {
namespace {

bool IsOnDevice(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().is_privateuseone();
}

/// Runs `kernel` on the views' bytes, after what they wait for.
template <typename Kernel>
auto Launch(c10::Device device, const HostViews& views, Kernel kernel) {
  DeviceQueues& queues = TestDeviceState().queues;
  queues.BeforeKernel(CurrentStream(device), views.Ranges());
  queues.AddLaunch(device.index());
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return kernel();
}

/// The arguments of one call, from the dispatcher's stack, turned into CPU tensors.
class BoxedCall {
 public:
  BoxedCall(const c10::OperatorHandle& op, torch::jit::Stack* stack) : op_(op), stack_(stack) {
    const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
    for (const c10::IValue& argument : arguments) {
      Visit(argument, [&](const auto& tensor) {
        if (IsOnDevice(tensor) && !device_) device_ = tensor.device();
      });
    }
    for (const c10::IValue& argument : arguments) {
      if (argument.isDevice() && !device_) device_ = argument.toDevice();
    }
    TORCH_CHECK(device_, op.schema().operator_name(), ": no operand on a test device");
    for (const c10::IValue& argument : arguments) {
      Visit(argument, [&](const auto& tensor) { Check(tensor); });
    }
    for (size_t i = 0; i < arguments.size(); ++i) {
      c10::IValue& argument = torch::jit::peek(*stack, i, arguments.size());
      argument = Converted(argument);
    }
  }

  void Run() {
    Launch(*device_, views_,
           [&] { op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack_); });
    views_.TakeSizes();
    bool tells_the_host = false;
    const size_t num_results = op_.schema().returns().size();
    for (size_t i = 0; i < num_results; ++i) {
      c10::IValue& result = torch::jit::peek(*stack_, i, num_results);
      tells_the_host = tells_the_host || result.isScalar() || result.isBool();
      result = Returned(result);
    }
    // The host waits for a value, and for a size that depends on values.
    if (tells_the_host || SizesDependOnValues()) {
      TestDeviceState().queues.Synchronise(CurrentStream(*device_));
    }
  }

 private:
  template <typename Function>
  static void Visit(const c10::IValue& argument, Function function) {
    if (argument.isTensor()) {
      function(argument.toTensor());
    } else if (argument.isTensorList()) {
      for (const at::Tensor& tensor : argument.toTensorVector()) function(tensor);
    } else if (argument.isOptionalTensorList()) {
      for (const std::optional<at::Tensor>& tensor : argument.toOptionalTensorVector()) {
        if (tensor) function(*tensor);
      }
    }
  }

  void Check(const at::Tensor& tensor) const {
    if (!tensor.defined() || tensor.device() == *device_) return;
    TORCH_CHECK(tensor.device().is_cpu() && tensor.dim() == 0, op_.schema().operator_name(),
                ": expected all tensors on ", *device_, ", but one is on ", tensor.device());
  }

  at::Tensor HostOf(const at::Tensor& tensor) {
    sees_mask_ = sees_mask_ || (IsOnDevice(tensor) && tensor.scalar_type() == at::kBool);
    return IsOnDevice(tensor) ? views_.Of(tensor) : tensor;
  }

  c10::IValue Converted(const c10::IValue& argument) {
    if (argument.isTensor()) return HostOf(argument.toTensor());
    if (argument.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : argument.toTensorVector()) list.push_back(HostOf(tensor));
      return list;
    }
    if (argument.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : argument.toOptionalTensorVector()) {
        list.push_back(tensor ? std::optional(HostOf(*tensor)) : std::nullopt);
      }
      return list;
    }
    if (argument.isDevice()) return c10::Device(c10::kCPU);
    return argument;
  }

  c10::IValue Returned(const c10::IValue& result) {
    if (result.isTensor()) return views_.ToDevice(result.toTensor(), *device_);
    if (result.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : result.toTensorVector()) {
        list.push_back(views_.ToDevice(tensor, *device_));
      }
      return list;
    }
    return result;
  }

  bool SizesDependOnValues() const {
    const std::string& name = op_.schema().name();
    return name == "aten::nonzero" || name == "aten::masked_select" || name == "aten::_unique2" ||
           (name == "aten::_index_put_impl_" && sees_mask_);
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack* const stack_;
  std::optional<c10::Device> device_;
  HostViews views_;
  bool sees_mask_ = false;
};

void AnyKernel(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  BoxedCall(op, stack).Run();
}

// Memory.

c10::Device DeviceOr(std::optional<c10::Device> device) {
  const c10::Device wanted = device.value_or(c10::Device(c10::kPrivateUse1));
  return wanted.has_index() ? wanted : CurrentStream(wanted).device();
}

at::Tensor Empty(c10::IntArrayRef sizes, std::optional<c10::ScalarType> dtype,
                 std::optional<c10::Layout> /*layout*/, std::optional<c10::Device> device,
                 std::optional<bool> /*pin_memory*/, std::optional<c10::MemoryFormat> format) {
  const c10::DeviceGuard guard(DeviceOr(device));
  return at::detail::empty_generic(sizes, c10::GetAllocator(c10::kPrivateUse1),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor EmptyStrided(c10::IntArrayRef sizes, c10::IntArrayRef strides,
                        std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> /*layout*/,
                        std::optional<c10::Device> device, std::optional<bool> /*pin_memory*/) {
  const c10::DeviceGuard guard(DeviceOr(device));
  return at::detail::empty_strided_generic(sizes, strides, c10::GetAllocator(c10::kPrivateUse1),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor& Resize(const at::Tensor& self, c10::IntArrayRef sizes,
                         std::optional<c10::MemoryFormat> format) {
  c10::TensorImpl* const impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(sizes);
  if (format && *format != c10::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  GrowStorage(self.storage(),
              static_cast<size_t>(self.storage_offset() + self.numel()) * self.itemsize());
  return self;
}

at::Tensor& SetStorage(at::Tensor& self, c10::Storage source) {
  return at::native::set_(self, std::move(source));
}

// Copies.

/// The bytes of a CPU tensor, which stay the caller's.
at::Tensor Unowned(const at::Tensor& host) {
  at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(c10::Storage::use_byte_size_t(), host.storage().nbytes(),
                   c10::DataPtr(const_cast<void*>(host.storage().data()), c10::kCPU)),
      c10::DispatchKeySet(c10::DispatchKey::CPU), host.dtype());
  view.unsafeGetTensorImpl()->set_storage_offset(host.storage_offset());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides());
  return view;
}

/// Between the host and a device: at once if it blocks, else when the stream comes to it.
void CopyHost(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const bool to_device = IsOnDevice(to);
  const at::Tensor& on_device = to_device ? to : from;
  const at::Tensor& on_host = to_device ? from : to;
  DeviceQueues& queues = TestDeviceState().queues;
  const c10::Stream stream = CurrentStream(on_device.device());
  HostViews views;
  const at::Tensor bytes = views.Of(on_device), host = Unowned(on_host);
  queues.AddBytes(stream.device_index(), to_device, on_host.nbytes());
  const auto copy = [bytes, host, to_device] {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    (to_device ? bytes : host).copy_(to_device ? host : bytes);
  };
  if (on_host.numel() == 0) return;
  if (non_blocking) {
    const c10::Storage& storage = on_host.storage();
    queues.Copy(stream, {.device = views.Ranges().front(),
                         .host = {static_cast<const char*>(storage.data()), storage.nbytes()},
                         .host_storage = storage.getWeakStorageImpl(),
                         .pinned = queues.IsPinned(storage.data()),
                         .run = copy});
    return;
  }
  queues.BeforeKernel(stream, views.Ranges());
  copy();
  queues.Synchronise(stream);
}

at::Tensor CopyFrom(const at::Tensor& self, const at::Tensor& destination, bool non_blocking) {
  if (!IsOnDevice(self) || !IsOnDevice(destination)) {
    // What does not fit is broadcast by copy_ before a host copy, as on a GPU.
    CopyHost(self.sizes() == destination.sizes() ? self : self.expand_as(destination), destination,
             non_blocking);
    return destination;
  }
  HostViews views;
  const at::Tensor from = views.Of(self), to = views.Of(destination);
  Launch(destination.device(), views, [&] { to.copy_(from); });
  return destination;
}

at::Tensor CopyFromAndResize(const at::Tensor& self, const at::Tensor& destination) {
  destination.resize_(self.sizes());
  return CopyFrom(self, destination, /*non_blocking=*/false);
}

at::Scalar ReadValue(const at::Tensor& self) {
  DeviceQueues& queues = TestDeviceState().queues;
  const c10::Stream stream = CurrentStream(self.device());
  HostViews views;
  const at::Tensor host = views.Of(self);
  queues.BeforeKernel(stream, views.Ranges());
  queues.AddBytes(stream.device_index(), /*to_device=*/false, self.itemsize());
  queues.Synchronise(stream);
  return at::_local_scalar_dense(host);
}

// Convolutions: libtorch calls these on a device whose convolutions it does not know.

void CheckSame(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(!b.defined() || a.device() == b.device(), "convolution: expected all tensors on ",
              a.device(), ", but one is on ", b.device());
}

at::Tensor Convolve(const at::Tensor& input, const at::Tensor& weight,
                    const std::optional<at::Tensor>& bias, c10::IntArrayRef stride,
                    c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
                    c10::IntArrayRef output_padding, int64_t groups) {
  const bool has_bias = bias && bias->defined();
  CheckSame(input, weight);
  if (has_bias) CheckSame(input, *bias);
  HostViews views;
  const at::Tensor x = views.Of(input), w = views.Of(weight);
  const std::optional<at::Tensor> b = has_bias ? std::optional(views.Of(*bias)) : std::nullopt;
  return views.ToDevice(Launch(input.device(), views,
                               [&] {
                                 return at::convolution(x, w, b, stride, padding, dilation,
                                                        transposed, output_padding, groups);
                               }),
                        input.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ConvolveBackward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight,
    c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
    c10::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  CheckSame(input, weight);
  CheckSame(input, gradient);
  HostViews views;
  const at::Tensor g = views.Of(gradient), x = views.Of(input), w = views.Of(weight);
  const std::vector<int64_t> bias_sizes = {gradient.size(1)};
  const auto [x_gradient, w_gradient, b_gradient] = Launch(input.device(), views, [&] {
    return at::convolution_backward(g, x, w, c10::OptionalIntArrayRef(bias_sizes), stride, padding,
                                    dilation, transposed, output_padding, groups, mask);
  });
  return {views.ToDevice(x_gradient, input.device()), views.ToDevice(w_gradient, input.device()),
          views.ToDevice(b_gradient, input.device())};
}

/// Attention is composed of products and a softmax: sdp::SDPBackend::math.
int64_t ChooseAttention(const at::Tensor& /*query*/, const at::Tensor& /*key*/,
                        const at::Tensor& /*value*/, const std::optional<at::Tensor>& /*mask*/,
                        double /*dropout*/, bool /*is_causal*/, std::optional<double> /*scale*/,
                        bool /*enable_gqa*/) {
  constexpr int64_t kMath = 0;
  return kMath;
}

}  // namespace

void RegisterDeviceKernels() {
  const auto key = c10::DispatchKey::PrivateUse1;
  static torch::Library all(torch::Library::IMPL, "_", key, __FILE__, __LINE__);
  all.fallback(torch::CppFunction::makeFromBoxedFunction<&AnyKernel>());

  static torch::Library aten(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
  aten.impl("empty.memory_format", Empty);
  aten.impl("empty_strided", EmptyStrided);
  aten.impl("resize_", Resize);
  aten.impl("as_strided", at::native::as_strided_tensorimpl);
  aten.impl("view", at::native::view);
  aten.impl("_reshape_alias", at::native::_reshape_alias);
  aten.impl("unfold", at::native::unfold);
  aten.impl("set_.source_Storage", SetStorage);
  aten.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  aten.impl("_copy_from", CopyFrom);
  aten.impl("_copy_from_and_resize", CopyFromAndResize);
  aten.impl("_local_scalar_dense", ReadValue);
  aten.impl("convolution_overrideable", Convolve);
  aten.impl("convolution_backward_overrideable", ConvolveBackward);
  aten.impl("_fused_sdp_choice", ChooseAttention);
  // libtorch composes these of others where a device has none; a GPU has them, as the CPU does.
  for (const char* name : {"native_group_norm", "native_layer_norm"}) {
    aten.impl(name, torch::CppFunction::makeFromBoxedFunction<&AnyKernel>());
  }
}

}  // namespace imageddpo

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// A TorchScript file in eval mode, from one tensor to one tensor. Keeps libtorch's heavy JIT
/// headers out of everything else. Thread-compatible.
class TorchScriptModule {
 public:
  /// NOT_FOUND: no such file. INVALID_ARGUMENT: not TorchScript.
  static absl::StatusOr<TorchScriptModule> Load(const std::string& path, at::Device device);

  ~TorchScriptModule();
  TorchScriptModule(TorchScriptModule&&) noexcept;
  TorchScriptModule& operator=(TorchScriptModule&&) noexcept;

  /// forward(input) without gradients, and without TorchScript's profile-guided optimisation, which
  /// would make the rounding of a call depend on the calls before. `input` is moved to the module's
  /// device.
  /// INVALID_ARGUMENT, naming the file, when the module throws or returns anything but one tensor.
  absl::StatusOr<at::Tensor> Run(const at::Tensor& input);

  const std::string& path() const;

 private:
  struct State;
  explicit TorchScriptModule(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace imageddpo

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageddpo {

/// One tensor of what a module returned.
struct ScriptOutput {
  std::string name;  ///< Its key in a Dict; empty in a tuple or where it is all.
  at::Tensor value;
};

/// A TorchScript file in eval mode. Keeps libtorch's heavy JIT headers out of everything else.
/// Thread-compatible.
class TorchScriptModule {
 public:
  /// NOT_FOUND: no such file. INVALID_ARGUMENT: not TorchScript.
  static absl::StatusOr<TorchScriptModule> Load(const std::string& path, at::Device device);

  ~TorchScriptModule();
  TorchScriptModule(TorchScriptModule&&) noexcept;
  TorchScriptModule& operator=(TorchScriptModule&&) noexcept;

  /// forward(inputs…) without gradients, and without TorchScript's profile-guided optimisation,
  /// which would make the rounding of a call depend on the calls before. The inputs are moved to
  /// the module's device.
  /// @return what it returned: a tensor, or each of a tuple or list, or of a Dict by key.
  ///         INVALID_ARGUMENT, naming the file, when the module throws or returns anything else.
  absl::StatusOr<std::vector<ScriptOutput>> Run(const std::vector<at::Tensor>& inputs);

  /// The same for a module from one tensor to one tensor; others are INVALID_ARGUMENT.
  absl::StatusOr<at::Tensor> Run(const at::Tensor& input);

  /// A file that was saved inside the archive (torch.jit.save's _extra_files); nullopt: there is no
  /// such. INVALID_ARGUMENT when it cannot be read.
  absl::StatusOr<std::optional<std::string>> ExtraFile(const std::string& name) const;

  const std::string& path() const;

 private:
  struct State;
  explicit TorchScriptModule(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace imageddpo

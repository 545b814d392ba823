#include "rollout/reward/torchscript_module.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <exception>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxReasonBytes = 400;

/// The first lines of what libtorch says; the rest is its own call stack.
std::string Reason(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string_view text = torch_error ? torch_error->what_without_backtrace() : error.what();
  return Excerpt(text, kMaxReasonBytes);
}

}  // namespace

struct TorchScriptModule::State {
  std::string path;
  at::Device device;
  torch::jit::Module module;
};

absl::StatusOr<TorchScriptModule> TorchScriptModule::Load(const std::string& path,
                                                          at::Device device) {
  // Reading first tells a missing or unreadable file from one of another kind.
  IMAGEDDPO_RETURN_IF_ERROR(ReadFile(path).status());
  try {
    auto state =
        std::make_unique<State>(State{path, device, torch::jit::load(path, device, false)});
    state->module.eval();
    return TorchScriptModule(std::move(state));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", path, "' is not a TorchScript file (save the model with ",
                     "torch.jit.script(model).save(path) or torch.jit.trace): ", Reason(error)));
  }
}

TorchScriptModule::TorchScriptModule(std::unique_ptr<State> state) : state_(std::move(state)) {}
TorchScriptModule::~TorchScriptModule() = default;
TorchScriptModule::TorchScriptModule(TorchScriptModule&&) noexcept = default;
TorchScriptModule& TorchScriptModule::operator=(TorchScriptModule&&) noexcept = default;

const std::string& TorchScriptModule::path() const { return state_->path; }

absl::StatusOr<at::Tensor> TorchScriptModule::Run(const at::Tensor& input) {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard no_profiling(false);
  try {
    const c10::IValue output = state_->module.forward({input.to(state_->device)});
    if (output.isTensor()) return output.toTensor();
    return absl::InvalidArgumentError(absl::StrCat("'", state_->path, "' returns a ",
                                                   output.tagKind(), ", it must return a tensor"));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", state_->path, "' failed on an input of shape ",
                     absl::StrJoin(input.sizes(), "x"), ": ", Reason(error)));
  }
}

}  // namespace imageddpo

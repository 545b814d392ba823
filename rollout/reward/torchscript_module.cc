#include "rollout/reward/torchscript_module.h"

#include <ATen/core/grad_mode.h>
#include <caffe2/serialize/inline_container.h>
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
#include "common/device/copies.h"
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

/// The tensors of what forward() returned; nullopt for anything else.
std::optional<std::vector<ScriptOutput>> OutputsOf(const c10::IValue& returned) {
  std::vector<ScriptOutput> outputs;
  const auto add = [&outputs](std::string name, const c10::IValue& value) {
    if (!value.isTensor()) return false;
    outputs.push_back({std::move(name), value.toTensor()});
    return true;
  };
  bool all_tensors = true;
  if (returned.isTensor()) {
    all_tensors = add("", returned);
  } else if (returned.isTuple()) {
    for (const c10::IValue& value : returned.toTupleRef().elements()) {
      all_tensors = all_tensors && add("", value);
    }
  } else if (returned.isTensorList()) {
    for (const at::Tensor& value : returned.toTensorVector()) add("", value);
  } else if (returned.isGenericDict()) {
    for (const auto& item : returned.toGenericDict()) {
      all_tensors = all_tensors && item.key().isString() &&
                    add(ValidText(item.key().toStringRef()), item.value());
    }
  }
  if (!all_tensors || outputs.empty()) return std::nullopt;
  return outputs;
}

/// What to do about a module whose weights are not float32, as the images are; else empty.
std::string RemedyForType(const torch::jit::Module& module) {
  for (const at::Tensor& weight : module.parameters()) {
    if (weight.scalar_type() == at::kFloat || !weight.is_floating_point()) continue;
    return absl::StrCat("; its weights are ", c10::toString(weight.scalar_type()),
                        " and images are float32: export model.float(), or have forward() convert "
                        "what it is given");
  }
  return "";
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
  IMAGEDDPO_RETURN_IF_ERROR(ReadFileHead(path, 1).status());
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

absl::StatusOr<std::vector<ScriptOutput>> TorchScriptModule::Run(
    const std::vector<at::Tensor>& inputs) {
  const at::NoGradGuard no_grad;
  const torch::jit::GraphOptimizerEnabledGuard no_profiling(false);
  try {
    std::vector<c10::IValue> arguments;
    for (const at::Tensor& input : inputs) arguments.emplace_back(MoveTo(input, state_->device));
    const c10::IValue returned = state_->module.forward(std::move(arguments));
    std::optional<std::vector<ScriptOutput>> outputs = OutputsOf(returned);
    if (outputs) return *std::move(outputs);
    return absl::InvalidArgumentError(
        absl::StrCat("'", state_->path, "' returns a ", returned.tagKind(),
                     ", it must return a tensor, or a tuple or a Dict[str, Tensor] of tensors"));
  } catch (const std::exception& error) {
    std::vector<std::string> shapes;
    for (const at::Tensor& input : inputs) shapes.push_back(absl::StrJoin(input.sizes(), "x"));
    return absl::InvalidArgumentError(absl::StrCat(
        "'", state_->path, "' failed on an input of shape ", absl::StrJoin(shapes, ", "), ": ",
        Reason(error), RemedyForType(state_->module)));
  }
}

absl::StatusOr<at::Tensor> TorchScriptModule::Run(const at::Tensor& input) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<ScriptOutput> outputs,
                             Run(std::vector<at::Tensor>{input}));
  if (outputs.size() == 1 && outputs.front().name.empty()) return outputs.front().value;
  return absl::InvalidArgumentError(absl::StrCat(
      "'", state_->path, "' returns a ", outputs.front().name.empty() ? "Tuple" : "Dict", " of ",
      outputs.size(), " tensors, it must return a tensor"));
}

absl::StatusOr<std::optional<std::string>> TorchScriptModule::ExtraFile(
    const std::string& name) const {
  const std::string record = absl::StrCat("extra/", name);
  try {
    caffe2::serialize::PyTorchStreamReader archive(state_->path);
    if (!archive.hasRecord(record)) return std::nullopt;
    const auto [data, size] = archive.getRecord(record);
    return std::string(static_cast<const char*>(data.get()), size);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("'", state_->path, "': cannot read the file ",
                                                   name, " inside of it: ", Reason(error)));
  }
}

}  // namespace imageddpo

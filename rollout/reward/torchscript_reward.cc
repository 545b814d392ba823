#include "rollout/reward/torchscript_reward.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

absl::StatusOr<std::unique_ptr<ClipTokenizer>> LoadTokenizer(
    const TorchScriptModule& module, const ScriptContract::Tokenizer& settings) {
  std::string texts[2];
  const char* const names[] = {kVocabularyFile, kMergesFile};
  for (int i = 0; i < 2; ++i) {
    IMAGEDDPO_ASSIGN_OR_RETURN(std::optional<std::string> text, module.ExtraFile(names[i]));
    if (!text) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", module.path(), "' has no file ", names[i],
                       " inside, which its tokenizer needs; save it with _extra_files"));
    }
    texts[i] = *std::move(text);
  }
  return ClipTokenizer::FromTexts(absl::StrCat("'", module.path(), "': tokenizer"), texts[0],
                                  texts[1],
                                  {.max_length = settings.length,
                                   .bos_id = settings.bos_id,
                                   .eos_id = settings.eos_id,
                                   .pad_id = settings.pad_id});
}

absl::Status LabelsMissing(const Example& example) {
  return absl::InvalidArgumentError(
      absl::StrCat("example '", example.id, "' (", example.file_name, ") has no label, which the ",
                   "file of this reward asks for; add \"label\" to its line in the metadata"));
}

/// The outputs in the contract's order, each [N], as the module returned them.
absl::StatusOr<std::vector<at::Tensor>> InOrder(const std::vector<ScriptOutput>& outputs,
                                                const ScriptContract& contract, int64_t num_images,
                                                const std::string& path) {
  const auto bad = [&path](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("'", path, "' ", what));
  };
  const size_t expected = std::max<size_t>(contract.outputs.size(), 1);
  if (outputs.size() != expected) {
    return bad(absl::StrCat(
        "returns ", outputs.size(), " tensors, expected ", expected,
        contract.outputs.empty()
            ? "; a file that returns several names them in \"outputs\" of the imageddpo.json inside"
            : absl::StrCat(": ", absl::StrJoin(contract.outputs, ", "))));
  }
  std::vector<at::Tensor> values;
  for (size_t i = 0; i < expected; ++i) {
    const std::string name = contract.outputs.empty() ? "" : contract.outputs[i];
    const auto found =
        outputs[i].name.empty()
            ? outputs.begin() + static_cast<ptrdiff_t>(i)
            : std::find_if(outputs.begin(), outputs.end(),
                           [&name](const ScriptOutput& output) { return output.name == name; });
    if (found == outputs.end()) {
      return bad(absl::StrCat("returns no tensor \"", name, "\", but \"", outputs[i].name, "\""));
    }
    const at::Tensor& value = found->value;
    // LPIPS, for one, returns [N,1,1,1].
    const bool has_one_each =
        value.dim() > 0 && value.size(0) == num_images && value.numel() == num_images;
    if (!has_one_each || !value.is_floating_point()) {
      return bad(absl::StrCat("returns ", name.empty() ? "" : absl::StrCat("for \"", name, "\" "),
                              "a tensor of type ", c10::toString(value.scalar_type()),
                              " and shape [", absl::StrJoin(value.sizes(), ", "), "] for ",
                              num_images, " images; it must be floating point and [", num_images,
                              "] or [", num_images, ", 1]"));
    }
    values.push_back(value.reshape({num_images}));
  }
  return values;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> TorchScriptReward::Make(const RewardConfig& config,
                                                                at::Device device,
                                                                const RewardHost& host) {
  absl::StatusOr<TorchScriptModule> module = TorchScriptModule::Load(config.model, device);
  if (!module.ok()) return Annotate(module.status(), "rewards.model");
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::optional<std::string> text,
                             module->ExtraFile(kContractFile));
  ScriptContract contract;
  if (text) {
    IMAGEDDPO_ASSIGN_OR_RETURN(
        contract, ParseScriptContract(
                      *text, absl::StrCat("rewards.model '", config.model, "': ", kContractFile)));
  }
  std::unique_ptr<ClipTokenizer> tokenizer;
  if (contract.tokenizer) {
    IMAGEDDPO_ASSIGN_OR_RETURN(tokenizer, LoadTokenizer(*module, *contract.tokenizer));
  }
  return std::unique_ptr<Reward>(
      new TorchScriptReward(*std::move(module), std::move(contract), std::move(tokenizer), host));
}

absl::StatusOr<std::vector<ScriptOutput>> TorchScriptReward::Run(const RewardBatch& batch) {
  std::vector<at::Tensor> arguments;
  for (const ScriptInput input : contract_.inputs) {
    switch (input) {
      case ScriptInput::kGenerated:
        arguments.push_back(batch.generated_BCHW);
        break;
      case ScriptInput::kInput:
        arguments.push_back(batch.inputs_BCHW);
        break;
      case ScriptInput::kTarget:
        arguments.push_back(batch.targets_BCHW);
        break;
      case ScriptInput::kPromptTokens: {
        std::vector<at::Tensor> tokens;
        for (const std::string& prompt : batch.prompts) {
          tokens.push_back(at::tensor(tokenizer_->Encode(prompt), at::kLong));
        }
        arguments.push_back(at::stack(tokens));
        break;
      }
      case ScriptInput::kLabel: {
        std::vector<int64_t> labels;
        for (const Example& example : batch.examples) {
          if (!example.label) return LabelsMissing(example);
          labels.push_back(*example.label);
        }
        arguments.push_back(at::tensor(labels, at::kLong));
        break;
      }
    }
  }
  return module_.Run(arguments);
}

std::unique_ptr<PendingReward> TorchScriptReward::Start(std::shared_ptr<const RewardBatch> batch) {
  absl::StatusOr<std::vector<ScriptOutput>> outputs = Run(*batch);
  return ComputeInWait([outputs = std::move(outputs), contract = contract_, path = module_.path(),
                        num_images = batch->size()]() -> absl::StatusOr<RewardOutput> {
    if (!outputs.ok()) return outputs.status();
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<at::Tensor> values,
                               InOrder(*outputs, contract, num_images, path));
    RewardOutput output;
    for (size_t i = 0; i < values.size(); ++i) {
      const at::Tensor value_N = values[i].to(at::kCPU, at::kDouble).contiguous();
      const auto* const begin = value_N.const_data_ptr<double>();
      if (i == contract.value) output.values_B.assign(begin, begin + num_images);
      if (contract.outputs.empty() || contract.outputs[i] == "value") continue;
      output.parts[contract.outputs[i]].assign(begin, begin + num_images);
    }
    return output;
  });
}

absl::Status TorchScriptReward::CheckDataset(const Dataset& dataset, int width, int height) {
  if (contract_.wants(ScriptInput::kTarget)) IMAGEDDPO_RETURN_IF_ERROR(CheckTargets(dataset));
  if (contract_.wants(ScriptInput::kLabel)) {
    for (int64_t i = 0; i < dataset.size(); ++i) {
      if (!dataset.at(i).label) return LabelsMissing(dataset.at(i));
    }
  }
  return Annotate(
      ProbeScoring(
          module_.path(), dataset, width, height,
          [this](const std::shared_ptr<const RewardBatch>& batch) -> absl::StatusOr<ProbeScores> {
            IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<ScriptOutput> outputs, Run(*batch));
            IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<at::Tensor> values,
                                       InOrder(outputs, contract_, batch->size(), module_.path()));
            std::vector<at::Tensor> same_type;
            for (const at::Tensor& value : values) {
              same_type.push_back(value.to(values[contract_.value].scalar_type()));
            }
            return ProbeScores{.values_NP = at::stack(same_type, 1),
                               .names = contract_.outputs.empty()
                                            ? std::vector<std::string>{"the value"}
                                            : contract_.outputs,
                               .must_be_finite = static_cast<int64_t>(contract_.value)};
          },
          host_.warn),
      "rewards.model");
}

}  // namespace imageddpo

#include "rollout/reward/classifier_reward.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr double kDefaultClamp = 10.0;

/// One image's logits.
struct LogitRow {
  const double* logits;
  int64_t num_classes;

  double Logit(int64_t label) const { return logits[label]; }

  double Margin(int64_t label) const {
    double largest_other = -std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < num_classes; ++i) {
      if (i != label) largest_other = std::max(largest_other, logits[i]);
    }
    return logits[label] - largest_other;
  }

  bool IsCorrect(int64_t label) const {
    return std::max_element(logits, logits + num_classes) - logits == label;
  }
};

double Measure(ClassifierMeasure measure, const LogitRow& generated, const LogitRow& input,
               int64_t label) {
  switch (measure) {
    case ClassifierMeasure::kLogitChange:
      return generated.Logit(label) - input.Logit(label);
    case ClassifierMeasure::kMarginChange:
      return generated.Margin(label) - input.Margin(label);
    case ClassifierMeasure::kLogitMaxMargin:
      return generated.Margin(label);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

ClassifierMeasure MeasureOf(const std::string& name) {
  if (name == "margin_change") return ClassifierMeasure::kMarginChange;
  if (name == "logit_max_margin") return ClassifierMeasure::kLogitMaxMargin;
  return ClassifierMeasure::kLogitChange;
}

double ClampOf(const RewardConfig& config, ClassifierMeasure measure) {
  constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  if (config.clamp) return *config.clamp > 0 ? *config.clamp : kNoLimit;
  return measure == ClassifierMeasure::kLogitMaxMargin ? kNoLimit : kDefaultClamp;
}

absl::StatusOr<int64_t> LabelOf(const Example& example, int64_t num_classes) {
  if (!example.label) {
    return absl::InvalidArgumentError(
        absl::StrCat("example '", example.id, "' (", example.file_name, ") has no label, which a ",
                     "classifier reward needs; add \"label\" to its line in metadata.jsonl"));
  }
  if (*example.label < 0 || *example.label >= num_classes) {
    return absl::InvalidArgumentError(
        absl::StrCat("example '", example.id, "' (", example.file_name, ") has the label ",
                     *example.label, ", the classifier's classes are 0 to ", num_classes - 1));
  }
  return *example.label;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> ClassifierReward::Make(const RewardConfig& config,
                                                               at::Device device) {
  absl::StatusOr<TorchScriptModule> module = TorchScriptModule::Load(config.model, device);
  if (!module.ok()) return Annotate(module.status(), "rewards.model");
  const ClassifierMeasure measure = MeasureOf(config.measure);
  return std::unique_ptr<Reward>(
      new ClassifierReward(*std::move(module), measure, ClampOf(config, measure)));
}

absl::StatusOr<at::Tensor> ClassifierReward::Logits(const at::Tensor& images_BCHW) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor logits, module_.Run(images_BCHW));
  if (logits.dim() != 2 || logits.size(0) != images_BCHW.size(0) || logits.size(1) < 2 ||
      !logits.is_floating_point()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", module_.path(), "' returns shape [", absl::StrJoin(logits.sizes(), ", "),
        "] for images of shape [", absl::StrJoin(images_BCHW.sizes(), ", "),
        "]; it must return floating-point logits [", images_BCHW.size(0), ", classes >= 2]"));
  }
  return logits.to(at::kCPU, at::kDouble).contiguous();
}

absl::StatusOr<RewardOutput> ClassifierReward::Score(const RewardInputs& inputs) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor generated, Logits(inputs.generated_BCHW));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor input, Logits(inputs.inputs_BCHW));
  const int64_t num_items = generated.size(0);
  const int64_t num_classes = generated.size(1);

  RewardOutput output;
  const auto new_values = [num_items] { return at::empty({num_items}, at::kDouble); };
  output.values_B = new_values();
  at::Tensor& correct = output.parts["correct"] = new_values();
  at::Tensor& correct_input = output.parts["correct_input"] = new_values();
  at::Tensor& logit = output.parts["logit"] = new_values();
  for (int64_t i = 0; i < num_items; ++i) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t label,
                               LabelOf(*inputs.examples[static_cast<size_t>(i)], num_classes));
    const LogitRow generated_row{generated.const_data_ptr<double>() + i * num_classes, num_classes};
    const LogitRow input_row{input.const_data_ptr<double>() + i * num_classes, num_classes};
    const double value = Measure(measure_, generated_row, input_row, label);
    output.values_B.data_ptr<double>()[i] = std::clamp(value, -clamp_, clamp_);  // NaN stays.
    correct.data_ptr<double>()[i] = generated_row.IsCorrect(label) ? 1.0 : 0.0;
    correct_input.data_ptr<double>()[i] = input_row.IsCorrect(label) ? 1.0 : 0.0;
    logit.data_ptr<double>()[i] = generated_row.Logit(label);
  }
  return output;
}

absl::Status ClassifierReward::CheckDataset(const Dataset& dataset, int width, int height) {
  const absl::StatusOr<at::Tensor> logits = Logits(at::zeros({1, 3, height, width}, at::kFloat));
  if (!logits.ok()) return Annotate(logits.status(), "rewards.model");
  for (int64_t i = 0; i < dataset.size(); ++i) {
    IMAGEDDPO_RETURN_IF_ERROR(LabelOf(dataset.at(i), logits->size(1)).status());
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

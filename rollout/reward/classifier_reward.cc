#include "rollout/reward/classifier_reward.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "rollout/reward/score_probe.h"

namespace imageddpo {
namespace {

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

double Measure(RewardMeasure measure, const LogitRow& generated, const LogitRow& input,
               int64_t label) {
  switch (measure) {
    case RewardMeasure::kLogitChange:
      return generated.Logit(label) - input.Logit(label);
    case RewardMeasure::kMarginChange:
      return generated.Margin(label) - input.Margin(label);
    case RewardMeasure::kLogitMaxMargin:
      return generated.Margin(label);
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
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

/// What a classifier returned for a batch, as float64 on the CPU.
struct Logits {
  at::Tensor values_BK;  ///< [B,classes], contiguous

  LogitRow Row(int64_t i) const {
    return {values_BK.const_data_ptr<double>() + i * num_classes(), num_classes()};
  }
  int64_t num_classes() const { return values_BK.size(1); }
};

/// @param output  what the classifier at `path` returned for `images_BCHW`.
absl::StatusOr<Logits> ToLogits(const absl::StatusOr<at::Tensor>& output,
                                const at::Tensor& images_BCHW, const std::string& path) {
  if (!output.ok()) return output.status();
  if (output->dim() != 2 || output->size(0) != images_BCHW.size(0) || output->size(1) < 2 ||
      !output->is_floating_point()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", path, "' returns shape [", absl::StrJoin(output->sizes(), ", "),
        "] for images of shape [", absl::StrJoin(images_BCHW.sizes(), ", "),
        "]; it must return floating-point logits [", images_BCHW.size(0), ", classes >= 2]"));
  }
  return Logits{output->to(at::kCPU, at::kDouble).contiguous()};
}

RewardOutput ScoreLogits(const RewardBatch& batch, const RewardConfig& config,
                         const Logits& generated, const Logits& inputs) {
  RewardOutput output;
  std::vector<double>& correct_B = output.parts["correct"];
  std::vector<double>& correct_input_B = output.parts["correct_input"];
  std::vector<double>& logit_B = output.parts["logit"];
  for (int64_t i = 0; i < batch.size(); ++i) {
    const absl::StatusOr<int64_t> label =
        LabelOf(batch.examples[static_cast<size_t>(i)], generated.num_classes());
    if (!label.ok()) {
      output.values_B.emplace_back(label.status());
      for (auto& [part, numbers_B] : output.parts) {
        numbers_B.push_back(std::numeric_limits<double>::quiet_NaN());
      }
      continue;
    }
    const LogitRow generated_row = generated.Row(i);
    const LogitRow input_row = inputs.Row(i);
    output.values_B.emplace_back(Measure(config.measure, generated_row, input_row, *label));
    correct_B.push_back(generated_row.IsCorrect(*label) ? 1.0 : 0.0);
    correct_input_B.push_back(input_row.IsCorrect(*label) ? 1.0 : 0.0);
    logit_B.push_back(generated_row.Logit(*label));
  }
  return output;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> ClassifierReward::Make(const RewardConfig& config,
                                                               at::Device device,
                                                               const RewardHost& host) {
  absl::StatusOr<TorchScriptModule> module = TorchScriptModule::Load(config.model, device);
  if (!module.ok()) return Annotate(module.status(), "rewards.model");
  return std::unique_ptr<Reward>(new ClassifierReward(*std::move(module), config, host));
}

std::unique_ptr<PendingReward> ClassifierReward::Start(std::shared_ptr<const RewardBatch> batch) {
  const absl::StatusOr<at::Tensor> generated = module_.Run(batch->generated_BCHW);
  const absl::StatusOr<at::Tensor> inputs =
      generated.ok() ? module_.Run(batch->inputs_BCHW) : generated;
  return ComputeInWait([batch = std::move(batch), config = config_, generated,
                        inputs]() -> absl::StatusOr<RewardOutput> {
    IMAGEDDPO_ASSIGN_OR_RETURN(const Logits generated_logits,
                               ToLogits(generated, batch->generated_BCHW, config.model));
    IMAGEDDPO_ASSIGN_OR_RETURN(const Logits input_logits,
                               ToLogits(inputs, batch->inputs_BCHW, config.model));
    return ScoreLogits(*batch, config, generated_logits, input_logits);
  });
}

absl::Status ClassifierReward::CheckDataset(const Dataset& dataset, int width, int height) {
  int64_t num_classes = 0;
  const auto score =
      [&](const std::shared_ptr<const RewardBatch>& batch) -> absl::StatusOr<ProbeScores> {
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor output, module_.Run(batch->generated_BCHW));
    IMAGEDDPO_ASSIGN_OR_RETURN(const Logits logits,
                               ToLogits(output, batch->generated_BCHW, module_.path()));
    num_classes = logits.num_classes();
    ProbeScores scores{.values_NP = output};
    for (int64_t i = 0; i < num_classes; ++i) scores.names.push_back(absl::StrCat("logit ", i));
    return scores;
  };
  IMAGEDDPO_RETURN_IF_ERROR(Annotate(
      ProbeScoring(module_.path(), dataset, width, height, score, host_.warn), "rewards.model"));
  if (config_.on_error == OnRewardError::kDrop) return absl::OkStatus();
  for (int64_t i = 0; i < dataset.size(); ++i) {
    IMAGEDDPO_RETURN_IF_ERROR(LabelOf(dataset.at(i), num_classes).status());
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

#include <ATen/ops/empty.h>

#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "deploy/trace/trace.h"
#include "deploy/trace/trace_files.h"
#include "trainer/algo/advantage_rule.h"

namespace imageddpo {

absl::Status TraceAdvantages(const TraceAdvantagesOptions& options) {
  if (options.buffer_size < 1 || options.min_count < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--buffer-size (", options.buffer_size,
                                                   ") and --min-count (", options.min_count,
                                                   ") must be at least 1"));
  }
  const std::optional<AdvantageMode> mode = FindChoice(kAdvantageModes, options.mode);
  if (!mode.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("--mode is ", options.mode,
                                                   "; it must be one of ",
                                                   absl::StrJoin(Words(kAdvantageModes), ", ")));
  }
  const std::unique_ptr<AdvantageRule> rule = MakeAdvantageRule(
      {.mode = *mode, .buffer_size = options.buffer_size, .min_count = options.min_count});

  IMAGEDDPO_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(options.inputs));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor rewards_EN,
                             GetTensor(*file, "rewards", at::kFloat, {-1, -1}));
  const int64_t epochs = rewards_EN.size(0);
  const int64_t samples = rewards_EN.size(1);
  at::Tensor ids_EN;
  if (mode != AdvantageMode::kGlobal) {
    IMAGEDDPO_ASSIGN_OR_RETURN(ids_EN, GetTensor(*file, "ids", at::kLong, {epochs, samples}));
  }

  const at::Tensor advantages_EN = at::empty({epochs, samples}, at::kFloat);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    const float* rewards = rewards_EN.const_data_ptr<float>() + epoch * samples;
    EpochRewards in_order{.rewards = {rewards, rewards + samples}};
    for (int64_t i = 0; ids_EN.defined() && i < samples; ++i) {
      in_order.groups.push_back(ids_EN.const_data_ptr<int64_t>()[epoch * samples + i]);
      in_order.image_ids.push_back(std::to_string(in_order.groups.back()));
    }
    const std::vector<double> advantages = rule->Advantages(in_order);
    std::copy(advantages.begin(), advantages.end(),
              advantages_EN.mutable_data_ptr<float>() + epoch * samples);
  }
  return WriteSafetensors(options.output, {{"advantages", advantages_EN}});
}

}  // namespace imageddpo

#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "deploy/trace/trace.h"
#include "deploy/trace/trace_files.h"
#include "trainer/algo/advantages.h"

namespace imageddpo {

absl::Status TraceAdvantages(const TraceAdvantagesOptions& options) {
  if (options.mode != "global" && options.mode != "per_key") {
    return absl::InvalidArgumentError(
        absl::StrCat("--mode is ", options.mode, ", it must be global or per_key"));
  }
  if (options.buffer_size < 1 || options.min_count < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--buffer-size (", options.buffer_size,
                                                   ") and --min-count (", options.min_count,
                                                   ") must be at least 1"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(options.inputs));
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor rewards_EN,
                             GetTensor(*file, "rewards", at::kFloat, {-1, -1}));
  const int64_t epochs = rewards_EN.size(0);
  const int64_t samples = rewards_EN.size(1);
  at::Tensor ids_EN;
  if (options.mode == "per_key") {
    IMAGEDDPO_ASSIGN_OR_RETURN(ids_EN, GetTensor(*file, "ids", at::kLong, {epochs, samples}));
  }

  KeyedStatistics statistics({options.buffer_size, options.min_count});
  const at::Tensor advantages_EN = at::empty({epochs, samples}, at::kFloat);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    const float* rewards = rewards_EN.const_data_ptr<float>() + epoch * samples;
    const std::vector<double> values(rewards, rewards + samples);
    std::vector<double> advantages;
    if (ids_EN.defined()) {
      const int64_t* ids = ids_EN.const_data_ptr<int64_t>() + epoch * samples;
      std::vector<std::string> keys;
      for (int64_t i = 0; i < samples; ++i) keys.push_back(std::to_string(ids[i]));
      advantages = statistics.Update(keys, values);
    } else {
      advantages = GlobalAdvantages(values);
    }
    std::copy(advantages.begin(), advantages.end(),
              advantages_EN.mutable_data_ptr<float>() + epoch * samples);
  }
  return WriteSafetensors(options.output, {{"advantages", advantages_EN}});
}

}  // namespace imageddpo

#include "trainer/loop/update_metrics.h"

#include <algorithm>
#include <cmath>

namespace imageddpo {

StalenessMetrics StalenessMetrics::Make(int64_t sample_age, const at::Tensor& means) {
  const auto* values = means.const_data_ptr<double>();
  const auto spread = [](double mean, double square) {
    return std::sqrt(std::max(0.0, square - mean * mean));
  };
  return {.sample_age = sample_age,
          .behaviour_ratio_mean = 1 + values[0],
          .behaviour_ratio_std = spread(values[0], values[1]),
          .proximal_ratio_mean = 1 + values[2],
          .proximal_ratio_std = spread(values[2], values[3])};
}

nlohmann::ordered_json UpdateMetrics::ToJson() const {
  nlohmann::ordered_json row = {{"epoch", epoch},
                                {"inner_epoch", inner_epoch},
                                {"update", update},
                                {"samples_seen", samples_seen},
                                {"reward_mean", reward_mean},
                                {"reward_std", reward_std},
                                {"loss", loss},
                                {"approx_kl", approx_kl},
                                {"clipfrac", clipfrac},
                                {"grad_norm", grad_norm},
                                {"ratio_first_step_max_error", ratio_first_step_max_error},
                                {"parts_mean", parts_mean}};
  if (staleness.has_value()) {
    row["sample_age"] = staleness->sample_age;
    row["behaviour_ratio_mean"] = staleness->behaviour_ratio_mean;
    row["behaviour_ratio_std"] = staleness->behaviour_ratio_std;
    row["proximal_ratio_mean"] = staleness->proximal_ratio_mean;
    row["proximal_ratio_std"] = staleness->proximal_ratio_std;
  }
  if (loss_scaling.has_value()) {
    row["loss_scale"] = loss_scaling->scale;
    row["skipped"] = loss_scaling->skipped;
    row["skipped_updates"] = loss_scaling->skipped_updates;
  }
  return row;
}

}  // namespace imageddpo

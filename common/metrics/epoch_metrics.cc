#include "common/metrics/epoch_metrics.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <map>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace imageddpo {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using metric::Kind;

const EpochMetric kTable[] = {
    {"epoch", Aggregate::kFirst, {}},
    {"inner_epoch", Aggregate::kOfUpdate, {}},
    {"update", Aggregate::kOfUpdate, {}},
    {"samples_seen",
     Aggregate::kLast,
     {"imageddpo_job_samples_seen", Kind::kGauge, "job_id,job_name",
      "Samples trained on, as in metrics.jsonl; goes back on a resume."}},
    {"reward_mean",
     Aggregate::kFirst,
     {"imageddpo_job_reward_mean", Kind::kGauge, "job_id,job_name",
      "Mean reward of the newest epoch's samples."}},
    {"reward_std",
     Aggregate::kFirst,
     {"imageddpo_job_reward_std", Kind::kGauge, "job_id,job_name",
      "Standard deviation of the newest epoch's rewards."}},
    {"reward_min",
     Aggregate::kFirst,
     {"imageddpo_job_reward_min", Kind::kGauge, "job_id,job_name",
      "Smallest reward of the newest epoch."}},
    {"reward_p10",
     Aggregate::kFirst,
     {"imageddpo_job_reward_p10", Kind::kGauge, "job_id,job_name",
      "10% quantile of the newest epoch's rewards."}},
    {"reward_median",
     Aggregate::kFirst,
     {"imageddpo_job_reward_median", Kind::kGauge, "job_id,job_name",
      "Median of the newest epoch's rewards."}},
    {"reward_p90",
     Aggregate::kFirst,
     {"imageddpo_job_reward_p90", Kind::kGauge, "job_id,job_name",
      "90% quantile of the newest epoch's rewards."}},
    {"reward_max",
     Aggregate::kFirst,
     {"imageddpo_job_reward_max", Kind::kGauge, "job_id,job_name",
      "Largest reward of the newest epoch."}},
    {"advantage_std",
     Aggregate::kFirst,
     {"imageddpo_job_advantage_std", Kind::kGauge, "job_id,job_name",
      "Standard deviation of the newest epoch's advantages, before they are clamped."}},
    {"advantage_max",
     Aggregate::kFirst,
     {"imageddpo_job_advantage_max", Kind::kGauge, "job_id,job_name",
      "Largest magnitude of these advantages."}},
    {"left_out_fraction",
     Aggregate::kFirst,
     {"imageddpo_job_left_out_fraction", Kind::kGauge, "job_id,job_name",
      "Share of the newest epoch's samples that are left out of advantages and loss."}},
    {"zero_std_ratio",
     Aggregate::kFirst,
     {"imageddpo_job_zero_std_ratio", Kind::kGauge, "job_id,job_name",
      "Share of the newest epoch's groups whose rewards are all equal (advantage.mode: group)."}},
    {"loss",
     Aggregate::kMean,
     {"imageddpo_job_loss", Kind::kGauge, "job_id,job_name",
      "Clipped policy loss, mean over the newest epoch's updates."}},
    {"sft_loss",
     Aggregate::kMean,
     {"imageddpo_job_sft_loss", Kind::kGauge, "job_id,job_name",
      "Squared error of the denoiser on noised target images, mean over the newest epoch's updates "
      "(train.objective: sft)."}},
    {"approx_kl",
     Aggregate::kMean,
     {"imageddpo_job_approx_kl", Kind::kGauge, "job_id,job_name",
      "Half the mean squared change of the log-probability, mean over the newest epoch's "
      "updates."}},
    {"clipfrac",
     Aggregate::kMean,
     {"imageddpo_job_clip_fraction", Kind::kGauge, "job_id,job_name",
      "Share of ratios outside the clip range, mean over the newest epoch's updates."}},
    {"clip_fraction_high",
     Aggregate::kMean,
     {"imageddpo_job_clip_fraction_high", Kind::kGauge, "job_id,job_name",
      "Share of ratios above the clip range, mean over the newest epoch's updates."}},
    {"clip_fraction_low",
     Aggregate::kMean,
     {"imageddpo_job_clip_fraction_low", Kind::kGauge, "job_id,job_name",
      "Share of ratios below the clip range, mean over the newest epoch's updates."}},
    {"kl_step_mean",
     Aggregate::kMean,
     {"imageddpo_job_kl_step_mean", Kind::kGauge, "job_id,job_name",
      "Divergence of a step from the policy that drew it in nats, mean over the newest epoch's "
      "updates (train.trust_region: kl)."}},
    {"kl_step_max",
     Aggregate::kMax,
     {"imageddpo_job_kl_step_max", Kind::kGauge, "job_id,job_name",
      "Largest such divergence of the newest epoch."}},
    {"masked_fraction",
     Aggregate::kMean,
     {"imageddpo_job_masked_fraction", Kind::kGauge, "job_id,job_name",
      "Share of steps without a gradient because of train.kl_limit, mean over the newest epoch's "
      "updates."}},
    {"kl_to_base",
     Aggregate::kMean,
     {"imageddpo_job_kl_to_base", Kind::kGauge, "job_id,job_name",
      "Divergence of a step from the base model's in nats, mean over the newest epoch's updates "
      "(train.kl_coef)."}},
    {"grad_norm",
     Aggregate::kMean,
     {"imageddpo_job_grad_norm", Kind::kGauge, "job_id,job_name",
      "Norm of the LoRA gradient before clipping, mean over the newest epoch's updates."}},
    {"update_norm",
     Aggregate::kMean,
     {"imageddpo_job_update_norm", Kind::kGauge, "job_id,job_name",
      "Norm of what an update adds to the LoRA, mean over the newest epoch's updates."}},
    {"ema_distance",
     Aggregate::kLast,
     {"imageddpo_job_ema_distance", Kind::kGauge, "job_id,job_name",
      "Norm of the LoRA minus its moving average, after the newest epoch (train.ema_decay)."}},
    {"learning_rate",
     Aggregate::kLast,
     {"imageddpo_job_learning_rate", Kind::kGauge, "job_id,job_name",
      "Learning rate of the newest epoch's last update."}},
    {"ratio_first_step_max_error",
     Aggregate::kFirst,
     {"imageddpo_job_ratio_first_step_max_error", Kind::kGauge, "job_id,job_name",
      "Largest |ratio - 1| before an epoch's first update, newest epoch; 0 in exact arithmetic."}},
    {"parts_mean",
     Aggregate::kFirst,
     {"imageddpo_job_part_mean", Kind::kGauge, "job_id,job_name,part",
      "Mean of each part of the rewards over the newest epoch's samples."}},
    {"sample_age",
     Aggregate::kFirst,
     {"imageddpo_job_sample_age", Kind::kGauge, "job_id,job_name",
      "LoRA versions between sampling and training of the newest epoch's samples."}},
    {"behaviour_ratio_mean",
     Aggregate::kMean,
     {"imageddpo_job_behaviour_ratio_mean", Kind::kGauge, "job_id,job_name",
      "Policy at the epoch's start over the one that sampled, mean over the newest epoch."}},
    {"behaviour_ratio_std",
     Aggregate::kMean,
     {"imageddpo_job_behaviour_ratio_std", Kind::kGauge, "job_id,job_name",
      "Standard deviation of that ratio."}},
    {"proximal_ratio_mean",
     Aggregate::kMean,
     {"imageddpo_job_proximal_ratio_mean", Kind::kGauge, "job_id,job_name",
      "Policy before an update over the one at the epoch's start, mean over the newest epoch."}},
    {"proximal_ratio_std",
     Aggregate::kMean,
     {"imageddpo_job_proximal_ratio_std", Kind::kGauge, "job_id,job_name",
      "Standard deviation of that ratio, mean over the newest epoch's updates."}},
    {"loss_scale",
     Aggregate::kLast,
     {"imageddpo_job_loss_scale", Kind::kGauge, "job_id,job_name",
      "Factor on the losses of fp16, after the newest epoch."}},
    {"skipped", Aggregate::kOfUpdate, {}},
    {"skipped_updates",
     Aggregate::kLast,
     {"imageddpo_job_skipped_updates", Kind::kGauge, "job_id,job_name",
      "Updates so far that were skipped: their gradients overflowed (fp16) or were spikes."}},
    {"images_skipped",
     Aggregate::kLast,
     {"imageddpo_job_images_skipped", Kind::kGauge, "job_id,job_name",
      "Images of data.path that cannot be read and are skipped (data.on_error: skip)."}},
    {"images_per_second",
     Aggregate::kOfEpoch,
     {"imageddpo_job_images_per_second", Kind::kGauge, "job_id,job_name",
      "Samples of the newest epoch over its whole wall time."}},
    {"mfu",
     Aggregate::kOfEpoch,
     {"imageddpo_job_mfu", Kind::kGauge, "job_id,job_name",
      "Operations that the newest epoch needed over what a matrix product reaches in its time."}},
    {"epoch_seconds",
     Aggregate::kOfEpoch,
     {"imageddpo_job_epoch_seconds", Kind::kGauge, "job_id,job_name",
      "Wall time of the newest epoch."}},
    {"stage_seconds",
     Aggregate::kOfEpoch,
     {"imageddpo_job_epoch_stage_seconds", Kind::kGauge, "job_id,job_name,stage",
      "Seconds of each stage of the newest epoch; sample, reward and rollout_wait per rollout "
      "rank, the others of the leading trainer."}},
};

const FieldDescriptor& FieldOf(const EpochMetric& metric) {
  return *v1::EpochMetrics::descriptor()->FindFieldByName(std::string(metric.field));
}

bool IsThere(const v1::EpochMetrics& metrics, const FieldDescriptor& field) {
  return !field.has_presence() || metrics.GetReflection()->HasField(metrics, &field);
}

double NumberOf(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? 1 : 0;
    default:
      return reflection.GetDouble(message, &field);
  }
}

std::map<std::string, double> MapOf(const v1::EpochMetrics& metrics, const FieldDescriptor& field) {
  std::map<std::string, double> values;
  const Reflection& reflection = *metrics.GetReflection();
  for (int i = 0; i < reflection.FieldSize(metrics, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(metrics, &field, i);
    const auto& type = *entry.GetDescriptor();
    values[entry.GetReflection()->GetString(entry, type.map_key())] =
        NumberOf(entry, *type.map_value());
  }
  return values;
}

void SetMax(const std::vector<v1::EpochMetrics>& updates, const FieldDescriptor& field,
            v1::EpochMetrics* to) {
  if (!IsThere(updates.front(), field)) return;
  double max = NumberOf(updates.front(), field);
  for (const v1::EpochMetrics& update : updates) max = std::max(max, NumberOf(update, field));
  to->GetReflection()->SetDouble(to, &field, max);
}

void SetMean(const std::vector<v1::EpochMetrics>& updates, const FieldDescriptor& field,
             v1::EpochMetrics* to) {
  if (!IsThere(updates.front(), field)) return;
  double mean = 0;
  for (const v1::EpochMetrics& update : updates) {
    mean += NumberOf(update, field) / static_cast<double>(updates.size());
  }
  to->GetReflection()->SetDouble(to, &field, mean);
}

}  // namespace

absl::Span<const EpochMetric> EpochMetricTable() { return kTable; }

v1::EpochMetrics OfUpdates(const std::vector<v1::EpochMetrics>& updates) {
  v1::EpochMetrics epoch = updates.front(), last = updates.back();
  const Reflection& reflection = *epoch.GetReflection();
  for (const EpochMetric& metric : kTable) {
    const FieldDescriptor& field = FieldOf(metric);
    switch (metric.aggregate) {
      case Aggregate::kFirst:
        break;
      case Aggregate::kLast:
        reflection.SwapFields(&epoch, &last, {&field});
        break;
      case Aggregate::kMean:
        SetMean(updates, field, &epoch);
        break;
      case Aggregate::kMax:
        SetMax(updates, field, &epoch);
        break;
      case Aggregate::kOfUpdate:
      case Aggregate::kOfEpoch:
        reflection.ClearField(&epoch, &field);
        break;
    }
  }
  return epoch;
}

nlohmann::ordered_json RowOf(const v1::EpochMetrics& update) {
  nlohmann::ordered_json row;
  const Reflection& reflection = *update.GetReflection();
  for (const EpochMetric& metric : kTable) {
    const FieldDescriptor& field = FieldOf(metric);
    if (metric.aggregate == Aggregate::kOfEpoch || !IsThere(update, field)) continue;
    nlohmann::ordered_json& value = row[field.name()];
    if (field.is_map()) {
      value = MapOf(update, field);
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
      value = reflection.GetInt64(update, &field);
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
      value = reflection.GetBool(update, &field);
    } else {
      value = reflection.GetDouble(update, &field);
    }
  }
  return row;
}

void ForEachValue(const v1::EpochMetrics& metrics, const EpochMetric& metric,
                  const std::function<void(const std::string&, double)>& use) {
  const FieldDescriptor& field = FieldOf(metric);
  if (field.is_map()) {
    for (const auto& [key, value] : MapOf(metrics, field)) use(key, value);
  } else if (IsThere(metrics, field)) {
    use("", NumberOf(metrics, field));
  }
}

std::string EpochLine(const v1::EpochMetrics& epoch, int64_t num_epochs) {
  std::vector<std::string> stages;
  for (const auto& [stage, seconds] :
       std::map<std::string, double>(epoch.stage_seconds().begin(), epoch.stage_seconds().end())) {
    stages.push_back(absl::StrFormat("%s %.3g", stage, seconds));
  }
  return absl::StrFormat(
      "epoch %d of %d: reward %.4g (spread %.3g), loss %.3g, KL %.3g, %.0f%% clipped, "
      "%.3g images/s, %.3g s%s%s%s",
      epoch.epoch() + 1, num_epochs, epoch.reward_mean(), epoch.reward_std(), epoch.loss(),
      epoch.approx_kl(), 100 * epoch.clipfrac(), epoch.images_per_second(), epoch.epoch_seconds(),
      stages.empty() ? "" : " (", absl::StrJoin(stages, ", "), stages.empty() ? "" : ")");
}

std::vector<const metric::Info*> AllMetrics() {
  std::vector<const metric::Info*> all(metric::kAll.begin(), metric::kAll.end());
  for (const EpochMetric& metric : kTable) {
    if (!metric.info.name.empty()) all.push_back(&metric.info);
  }
  return all;
}

}  // namespace imageddpo

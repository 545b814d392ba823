#include "trainer/controller/jobs/device_batch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "common/plan/predict.h"

namespace imageddpo {
namespace {

/// Usable part of a rank's share: predictions of activations are off by some ten percent.
constexpr double kShareToUse = 0.8;
/// Memory that is not predicted: libraries, buffers of transfers, decoded images.
constexpr double kProcessBytes = 0.5e9;

std::string Gigabytes(double bytes) { return absl::StrFormat("%.1f GB", bytes / 1e9); }

v1::JobSpec WithBatch(const v1::JobSpec& job, int64_t size) {
  v1::JobSpec changed = job;
  changed.mutable_device()->set_device_batch_size(size);
  if (job.eval().batch_size() == 0) changed.mutable_eval()->set_batch_size(size);
  return changed;
}

class Predictor {
 public:
  Predictor(const Topology& topology, const ModelCount& model) : topology_(topology) {
    inputs_.model = model;
  }

  /// Memory of the busiest rank of a job; kProcessBytes alone if it cannot be predicted.
  double Bytes(const v1::JobSpec& job) const { return Use(job).total() + kProcessBytes; }

  MemoryUse Use(const v1::JobSpec& job) const {
    const absl::StatusOr<Prediction> prediction = Predict(job, topology_, inputs_);
    if (!prediction.ok()) return {};
    const MemoryUse &rollout = prediction->rollout_memory, &trainer = prediction->trainer_memory;
    return rollout.total() > trainer.total() ? rollout : trainer;
  }

 private:
  Topology topology_;
  PlanInputs inputs_;  // Without costs: no seconds are asked for.
};

/// The sizes with which every rank of the topology has at least one micro-batch.
std::vector<int64_t> Choices(const Topology& topology, int64_t most, const v1::JobSpec& job) {
  std::vector<int64_t> sizes = AutoDeviceBatches(job, most);
  const auto first = std::find_if(sizes.begin(), sizes.end(), [&](int64_t size) {
    const absl::StatusOr<JobPlan> plan = MakeJobPlan(WithBatch(job, size));
    return plan.ok() && topology.trainer <= plan->gradient_shards &&
           topology.rollout <= plan->micro_batches_per_epoch;
  });
  sizes.erase(sizes.begin(), first == sizes.end() ? sizes.end() - 1 : first);
  return sizes;
}

/// Remedies for a job that does not fit even with one sample at a time.
std::string Remedies(const v1::JobSpec& job, const Predictor& predictor) {
  std::vector<std::string> remedies;
  const auto suggest = [&](const char* what, const v1::JobSpec& changed) {
    remedies.push_back(absl::StrCat("`", what, "` (", Gigabytes(predictor.Bytes(changed)), ")"));
  };
  if (!job.device().gradient_checkpointing()) {
    v1::JobSpec changed = job;
    changed.mutable_device()->set_gradient_checkpointing(true);
    suggest("device.gradient_checkpointing: true", changed);
  }
  if (job.model().precision() == "fp32") {
    v1::JobSpec changed = job;
    changed.mutable_model()->set_precision("bf16");
    suggest("model.precision: bf16", changed);
  }
  if (job.train().update() == "single_pass") {
    v1::JobSpec changed = job;
    changed.mutable_train()->set_update("replay");
    suggest("train.update: replay", changed);
  }
  remedies.emplace_back("a smaller `data.resolution`");
  return absl::StrJoin(remedies, ", ");
}

absl::Status TooLarge(const v1::JobSpec& job, const Predictor& predictor, double most) {
  const MemoryUse use = predictor.Use(job);
  return absl::FailedPreconditionError(absl::StrCat(
      "the job is predicted to need ", Gigabytes(predictor.Bytes(job)),
      " on a rank even with one sample at a time (weights ", Gigabytes(use.weights),
      ", activations ", Gigabytes(use.activations), ", gradients of samples ",
      Gigabytes(use.sample_gradients), "), and a rank of this pool has ", Gigabytes(most), "; use ",
      Remedies(job, predictor), ", or try all the same with `device.device_batch_size: 1`"));
}

}  // namespace

absl::StatusOr<ModelCount> CountJobModel(const v1::JobSpec& job) {
  const auto& modules = job.lora().target_modules();
  return CountModel(PathOf(job.model().path()), job.data().resolution(),
                    {.rank = job.lora().rank(), .modules = {modules.begin(), modules.end()}});
}

absl::Status ResolveDeviceBatch(const Topology& topology, const std::optional<ModelCount>& model,
                                const Scheduler::RankMemory& memory, int64_t most, v1::JobSpec* job,
                                std::vector<std::string>* warnings) {
  const bool is_auto = job->device().device_batch_size() == 0;
  const std::vector<int64_t> sizes = is_auto
                                         ? Choices(topology, most, *job)
                                         : std::vector<int64_t>{job->device().device_batch_size()};
  int64_t chosen = sizes.front();
  if (model.has_value() && memory.share > 0) {
    const Predictor predictor(topology, *model);
    const double at_most = is_auto ? kShareToUse * memory.share : memory.most;
    const auto fits = [&](int64_t size) {
      return predictor.Bytes(WithBatch(*job, size)) <= at_most;
    };
    const auto found = std::find_if(sizes.begin(), sizes.end(), fits);
    if (found == sizes.end() && is_auto && predictor.Bytes(WithBatch(*job, 1)) > memory.most) {
      return TooLarge(WithBatch(*job, 1), predictor, memory.most);
    }
    chosen = found == sizes.end() ? sizes.back() : *found;
    if (found != sizes.begin()) {
      warnings->push_back(absl::StrCat(
          "with `device.device_batch_size: ", sizes.front(), "` a rank is predicted to need ",
          Gigabytes(predictor.Bytes(WithBatch(*job, sizes.front()))), " of ", Gigabytes(at_most),
          is_auto ? absl::StrCat(" that it may take: it is ", chosen)
                  : std::string(" that it has")));
    }
  }
  *job = WithBatch(*job, chosen);
  return absl::OkStatus();
}

}  // namespace imageddpo

#include "trainer/controller/jobs/device_batch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/plan/predict.h"

namespace imageddpo {
namespace {

/// Usable part of a rank's share: predictions of activations are off by some ten percent.
constexpr double kShareToUse = 0.8;

std::string Gigabytes(double bytes) { return absl::StrFormat("%.1f GB", bytes / 1e9); }

class Predictor {
 public:
  Predictor(const Topology& topology, const ModelCount& model) : topology_(topology) {
    inputs_.model = model;
  }

  /// Memory of the busiest rank of a job; kProcessBytes alone if it cannot be predicted.
  double Bytes(const absl::StatusOr<ResolvedJob>& job) const {
    return Use(job).total() + kProcessBytes;
  }

  MemoryUse Use(const absl::StatusOr<ResolvedJob>& job) const {
    if (!job.ok()) return {};
    const absl::StatusOr<Prediction> prediction = Predict(*job, topology_, inputs_);
    if (!prediction.ok()) return {};
    const MemoryUse &rollout = prediction->rollout_memory, &trainer = prediction->trainer_memory;
    return rollout.total() > trainer.total() ? rollout : trainer;
  }

 private:
  Topology topology_;
  PlanInputs inputs_;  // Without costs: no seconds are asked for.
};

/// The sizes with which every rank of the topology has at least one micro-batch.
std::vector<int64_t> Choices(const ResolvedJob& job, const Topology& topology, int64_t most) {
  std::vector<int64_t> sizes = job.MicroBatchChoices(most);
  const auto first = std::find_if(sizes.begin(), sizes.end(), [&](int64_t size) {
    const absl::StatusOr<ResolvedJob> cut = job.WithMicroBatch(size);
    return cut.ok() && topology.trainer <= cut->plan().gradient_shards &&
           topology.rollout <= cut->plan().micro_batches_per_epoch;
  });
  sizes.erase(sizes.begin(), first == sizes.end() ? sizes.end() - 1 : first);
  return sizes;
}

/// Remedies for a job that does not fit even with one sample at a time.
std::string Remedies(const ResolvedJob& job, const Predictor& predictor) {
  std::vector<std::string> remedies;
  const auto suggest = [&](const char* what, const auto& change) {
    remedies.push_back(
        absl::StrCat("`", what, "` (", Gigabytes(predictor.Bytes(job.With(change))), ")"));
  };
  if (!job.spec().device().gradient_checkpointing()) {
    suggest("device.gradient_checkpointing: true",
            [](v1::JobSpec* spec) { spec->mutable_device()->set_gradient_checkpointing(true); });
  }
  if (job.precision() == Precision::kFp32) {
    suggest("model.precision: bf16", [](v1::JobSpec* spec) {
      spec->mutable_model()->set_precision(WordOf(kPrecisions, Precision::kBf16));
    });
  }
  if (job.plan().single_pass) {
    suggest("train.update: replay", [](v1::JobSpec* spec) {
      spec->mutable_train()->set_update(WordOf(kUpdates, UpdateKind::kReplay));
    });
  }
  remedies.emplace_back("a smaller `data.resolution`");
  return absl::StrJoin(remedies, ", ");
}

absl::Status TooLarge(const ResolvedJob& job, const Predictor& predictor, double most) {
  const MemoryUse use = predictor.Use(job);
  return absl::FailedPreconditionError(absl::StrCat(
      "the job is predicted to need ", Gigabytes(predictor.Bytes(job)),
      " on a rank even with one sample at a time (weights ", Gigabytes(use.weights),
      ", activations ", Gigabytes(use.activations), ", gradients of samples ",
      Gigabytes(use.sample_gradients), "), and a rank of this pool has ", Gigabytes(most), "; use ",
      Remedies(job, predictor), ", or try all the same with `device.device_batch_size: 1`"));
}

}  // namespace

absl::StatusOr<ResolvedJob> ChooseMicroBatch(const ResolvedJob& job, const Topology& topology,
                                             const std::optional<ModelCount>& model,
                                             const Scheduler::RankMemory& memory, int64_t most,
                                             std::vector<std::string>* warnings) {
  const bool is_auto = job.micro_batch_is_open();
  const std::vector<int64_t> sizes =
      is_auto ? Choices(job, topology, most)
              : std::vector<int64_t>{job.spec().device().device_batch_size()};
  int64_t chosen = sizes.front();
  if (model.has_value() && memory.share > 0) {
    const Predictor predictor(topology, *model);
    const double at_most = is_auto ? kShareToUse * memory.share : memory.most;
    const auto fits = [&](int64_t size) {
      return predictor.Bytes(job.WithMicroBatch(size)) <= at_most;
    };
    const auto found = std::find_if(sizes.begin(), sizes.end(), fits);
    if (found == sizes.end() && is_auto) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob least, job.WithMicroBatch(sizes.back()));
      if (predictor.Bytes(least) > memory.most) return TooLarge(least, predictor, memory.most);
    }
    chosen = found == sizes.end() ? sizes.back() : *found;
    if (found != sizes.begin()) {
      warnings->push_back(absl::StrCat(
          "with `device.device_batch_size: ", sizes.front(), "` a rank is predicted to need ",
          Gigabytes(predictor.Bytes(job.WithMicroBatch(sizes.front()))), " of ", Gigabytes(at_most),
          is_auto ? absl::StrCat(" that it may take: it is ", chosen)
                  : std::string(" that it has")));
    }
  }
  return job.WithMicroBatch(chosen);
}

}  // namespace imageddpo

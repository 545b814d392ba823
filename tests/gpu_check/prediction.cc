#include "tests/gpu_check/prediction.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_config.h"
#include "common/config/resolved_job.h"
#include "common/plan/nominal.h"
#include "common/plan/predict.h"

namespace imageddpo {

absl::StatusOr<double> PredictedBytes(const SpeedOptions& options, const ModelCount& count,
                                      int64_t lora_rank) {
  const std::string settings = absl::StrCat(
      "name: speed\n"
      "model: {path: model, precision: ",
      options.precision, "}\n", "data: {path: images, resolution: ", options.resolution, "}\n",
      "rewards: [{type: jpeg, measure: compressibility}]\n", "lora: {rank: ", lora_rank, "}\n",
      "sample: {num_steps: ", options.num_steps, ", noise_strength: ", options.noise_strength,
      ", guidance_scale: ", options.guidance_scale, ", batch_size: ", options.samples_per_epoch,
      ", num_batches_per_epoch: 1}\n", "train: {update: ", options.update,
      ", batch_size: ", options.samples_per_epoch, "}\n", "topology: {colocated: 1}\n",
      "device: {device_batch_size: ", options.batch_size, "}\n");
  IMAGEDDPO_ASSIGN_OR_RETURN(const v1::JobSpec spec, ParseJobYaml(settings, "speed.yaml"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob job, ResolvedJob::Make(spec));
  ModelCount without_text = count;
  without_text.text = {};
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const Prediction prediction,
      Predict(job, {.rollout = 1, .trainer = 1, .colocated = true},
              NominalInputs(without_text, /*on_gpus=*/true, /*memory_bytes=*/0)));
  return std::max(prediction.rollout_memory.total(), prediction.trainer_memory.total());
}

}  // namespace imageddpo

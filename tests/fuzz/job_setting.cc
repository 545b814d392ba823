// `--set SETTING=VALUE`: a setting that is refused leaves the job as it was.
#include "common/config/job_config.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  return {"sample.num_steps=20", "rewards.0.weight=0.5",       "lora.target_modules=[to_q, to_v]",
          "topology=auto",       "data.resolution=[512, 256]", "train.learning_rate=1e-4",
          "labels.team=blue",    "sample.num_steps=auto",      "rewards.1.type=jpeg"};
}

void Read(std::string_view input) {
  static const auto& job = *new absl::StatusOr<v1::JobSpec>(
      ParseJobYaml("{name: a, seed: 5, rewards: [{type: jpeg, measure: compressibility}]}", "job"));
  Require(job.ok(), "the job is good");
  v1::JobSpec changed = *job;
  if (!ApplyJobSetting(input, &changed).ok()) {
    Require(JobToYaml(changed) == JobToYaml(*job), "a refused setting changes nothing");
  }
}

}  // namespace imageddpo::fuzz

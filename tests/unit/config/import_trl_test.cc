#include "common/config/import_trl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/config/job_config.h"
#include "common/config/resolve_steps.h"
#include "common/config/resolved_job.h"

namespace imageddpo {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TrlImport Imported(const std::string& text, int processes = 1) {
  auto import = ImportTrl(text, "ddpo.yaml", processes);
  EXPECT_TRUE(import.ok()) << import.status();
  return import.ok() ? *std::move(import) : TrlImport();
}

constexpr char kFlat[] = R"(
run_name: my run/1
seed: 7
num_epochs: 20
save_freq: 5
num_checkpoint_limit: 2
mixed_precision: bf16
sample_num_steps: 20
sample_eta: 0.5
sample_guidance_scale: 7.5
sample_batch_size: 4
sample_num_batches_per_epoch: 3
train_batch_size: 2
train_use_8bit_adam: true
train_learning_rate: 1e-4
train_adam_beta1: 0.8
train_adam_beta2: 0.99
train_adam_weight_decay: 0.01
train_adam_epsilon: 1.0e-7
train_gradient_accumulation_steps: 6
train_max_grad_norm: 0.5
train_num_inner_epochs: 2
train_cfg: false
train_adv_clip_max: 4
train_clip_range: 2e-4
train_timestep_fraction: 0.5
per_prompt_stat_tracking: true
per_prompt_stat_tracking_buffer_size: 32
per_prompt_stat_tracking_min_count: 8
negative_prompts: blurry
log_with: wandb
tracker_kwargs: {wandb: {project: x}}
)";

TEST(ImportTrl, EverySettingComesThrough) {
  const v1::JobSpec job = Imported(kFlat, 4).job;
  EXPECT_EQ(job.name(), "my-run-1");
  EXPECT_EQ(job.seed(), 7U);
  EXPECT_EQ(job.num_epochs(), 20);
  EXPECT_EQ(job.checkpoint().every_epochs(), 5);
  EXPECT_EQ(job.checkpoint().keep(), 2);
  EXPECT_EQ(job.sample().num_steps(), 20);
  EXPECT_EQ(job.sample().eta(), 0.5);
  EXPECT_EQ(job.sample().guidance_scale(), 7.5);
  EXPECT_EQ(job.sample().batch_size(), 16) << "4 per process, 4 processes";
  EXPECT_EQ(job.sample().num_batches_per_epoch(), 3);
  EXPECT_EQ(job.train().batch_size(), 8) << "2 per process, 4 processes";
  EXPECT_EQ(job.train().gradient_accumulation_steps(), 6);
  EXPECT_EQ(job.train().learning_rate(), 1e-4);
  EXPECT_EQ(job.train().adam_beta1(), 0.8);
  EXPECT_EQ(job.train().adam_beta2(), 0.99);
  EXPECT_EQ(job.train().adam_weight_decay(), 0.01);
  EXPECT_EQ(job.train().adam_epsilon(), 1e-7);
  EXPECT_EQ(job.train().max_grad_norm(), 0.5);
  EXPECT_EQ(job.train().num_inner_epochs(), 2);
  EXPECT_EQ(job.train().adv_clip_max(), 4.0);
  EXPECT_EQ(job.train().clip_range(), 2e-4);
  EXPECT_EQ(job.advantage().mode(), "per_key");
  EXPECT_EQ(job.advantage().stat_key(), "prompt");
  EXPECT_EQ(job.advantage().buffer_size(), 32);
  EXPECT_EQ(job.advantage().min_count(), 8);
  EXPECT_EQ(job.data().negative_prompt(), "blurry");
}

TEST(ImportTrl, WhatIsNotGivenHasTrlsDefaults) {
  const v1::JobSpec job = Imported("{}", 2).job;
  EXPECT_EQ(job.seed(), 0U);
  EXPECT_EQ(job.checkpoint().every_epochs(), 1);
  EXPECT_EQ(job.checkpoint().keep(), 5);
  EXPECT_EQ(job.sample().batch_size(), 2);
  EXPECT_EQ(job.train().batch_size(), 2);
  EXPECT_FALSE(job.has_advantage());

  // Everything else is the same as ours.
  v1::JobSpec ours;
  FillDefaults(&ours);
  v1::JobSpec theirs = job;
  FillDefaults(&theirs);
  EXPECT_EQ(theirs.train().learning_rate(), ours.train().learning_rate());
  EXPECT_EQ(theirs.sample().num_steps(), ours.sample().num_steps());
  EXPECT_EQ(theirs.num_epochs(), ours.num_epochs());
}

TEST(ImportTrl, ReportsWhatHasNoTwin) {
  const std::vector<std::string> notes = Imported(kFlat, 4).notes;
  for (const char* text : {"train_cfg has no twin", "train_timestep_fraction 0.5 has no twin",
                           "of all 4 together", "log_with, tracker_kwargs"}) {
    EXPECT_THAT(notes, Contains(HasSubstr(text)));
  }
  EXPECT_THAT(Imported("mixed_precision: 'no'").notes, Not(Contains(HasSubstr("mixed_precision"))));
  EXPECT_THAT(Imported("mixed_precision: fp8").notes, Contains(HasSubstr("mixed_precision fp8")));
  EXPECT_THAT(Imported("mixed_precision: fp16").notes, Contains(HasSubstr("on GPUs alone")));
  EXPECT_EQ(Imported("mixed_precision: fp16").job.model().precision(), "fp16");
  EXPECT_FALSE(Imported("seed: 1").job.model().has_precision());
  EXPECT_EQ(Imported(kFlat).job.model().precision(), "bf16");
  EXPECT_EQ(Imported(kFlat).job.train().optimizer(), "adamw8bit");
  EXPECT_THAT(Imported("seed: -3").notes, Contains(HasSubstr("negative seed")));
}

TEST(ImportTrl, Tf32WhereItIsAskedFor) {
  EXPECT_TRUE(Imported("allow_tf32: true").job.device().allow_tf32());
  EXPECT_FALSE(Imported("allow_tf32: false").job.device().allow_tf32());
  EXPECT_FALSE(Imported("seed: 1").job.device().allow_tf32());
}

TEST(ImportTrl, ReadsJson) {
  EXPECT_EQ(Imported(R"({"sample_num_steps": 12, "train_cfg": true, "resume_from": ""})")
                .job.sample()
                .num_steps(),
            12);
}

TEST(ImportTrl, NamesWhatIsWrong) {
  const auto refusal = [](const std::string& text, int processes = 1) {
    const auto import = ImportTrl(text, "ddpo.yaml", processes);
    EXPECT_EQ(import.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(import.status().message());
  };
  EXPECT_EQ(refusal("seed: 1\nsample_num_step: 3"),
            "unknown setting `sample_num_step` (ddpo.yaml:2) of DDPOConfig; did you mean "
            "`sample_num_steps`?");
  EXPECT_EQ(refusal("train_batch_size: two"),
            "`train_batch_size` (ddpo.yaml:1) must be a whole number, not `two`");
  EXPECT_THAT(refusal("train_cfg: maybe"), HasSubstr("must be true or false"));
  EXPECT_THAT(refusal("seed: 1\nseed: 1"), HasSubstr("given twice"));
  EXPECT_THAT(refusal("seed: 1", 0), HasSubstr("--processes is 0"));
}

TEST(TrlImport, NoTextLeavesItsComment) {
  const std::string yaml =
      Imported("mixed_precision: \"fp8\\nnum_epochs: 9\"").ToYaml("a\nnum_epochs: 8\xe9.yaml");
  EXPECT_THAT(yaml, HasSubstr("# Made from a\\x0Anum_epochs: 8\\xE9.yaml by"));
  EXPECT_THAT(yaml, HasSubstr("# - mixed_precision fp8\\x0Anum_epochs: 9 is"));
}

TEST(TrlImport, TheFileIsAJobThatOnlyLacksItsPaths) {
  const std::string yaml = Imported(kFlat, 4).ToYaml("ddpo.yaml");
  EXPECT_THAT(yaml, HasSubstr("# - train_cfg has no twin"));
  auto job = ParseJobYaml(yaml, "job.yaml");
  ASSERT_TRUE(job.ok()) << job.status() << "\n" << yaml;
  EXPECT_EQ(job->sample().noise_strength(), 0.2);
  EXPECT_EQ(job->sample().batch_size(), 16);
  EXPECT_EQ(job->data().negative_prompt(), "blurry");
  EXPECT_EQ(job->model().precision(), "bf16");
  EXPECT_TRUE(ResolvedJob::Make(*job).ok()) << ResolvedJob::Make(*job).status() << "\n" << yaml;
}

}  // namespace
}  // namespace imageddpo

// Evaluations: the jobs that `eval` and `sample` compose, and the tables that they print.
#include "deploy/imageddpo/commands/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "common/config/job_config.h"
#include "deploy/imageddpo/text/eval_text.h"
#include "nlohmann/json.hpp"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// A job that trains, with every default.
v1::JobSpec Trained() {
  const absl::StatusOr<v1::JobSpec> job = ParseJobYaml(
      "name: deblur\nmodel: {path: m}\ndata: {path: d, prompt: a shoe, resolution: 32}\n"
      "eval: {path: e, batch_size: 3, num_seeds: 2, every_epochs: 5}\n"
      "rewards: [{type: classifier, model: c.pt, measure: logit_change, warmup_epochs: 3}, {type: "
      "l1, weight: -1, warmup_epochs: 2}]\n"
      "lora: {rank: 16, init_from: old.safetensors, unsupported_modules: skip}\n"
      "sample: {batch_size: 16, num_batches_per_epoch: 3, noise_strength: 0.4, max_staleness: 2}\n"
      "train: {batch_size: 8}\nadvantage: {mode: per_key}\ntopology: {colocated: 2}\n"
      "device: {device_batch_size: 4, num_threads: 3}\ncheckpoint: {best: reward}",
      "job.yaml");
  EXPECT_TRUE(job.ok()) << job.status();
  const absl::StatusOr<ResolvedJob> judged = ResolvedJob::Make(*job);
  EXPECT_TRUE(judged.ok()) << judged.status();
  return judged->spec();
}

TEST(EvaluationOf, HasWhatDecidesTheNumbersAndNothingOfTheTraining) {
  v1::JobSpec spec = EvaluationOf(Trained());
  spec.mutable_lora()->set_init_from("new.safetensors");
  AddDistances(/*to_targets=*/false, &spec);
  const absl::StatusOr<ResolvedJob> job = Compose(spec, {"eval.num_seeds=4"});
  ASSERT_TRUE(job.ok()) << job.status();
  const v1::JobSpec& all = job->spec();
  EXPECT_EQ(all.name(), "deblur-eval");
  EXPECT_EQ(all.num_epochs(), 0);
  EXPECT_EQ(all.model().path(), "m");
  EXPECT_EQ(all.lora().rank(), 4);
  EXPECT_EQ(all.lora().unsupported_modules(), "skip");
  EXPECT_FALSE(all.data().has_path());
  EXPECT_EQ(all.data().prompt(), "a shoe");
  EXPECT_EQ(all.data().resolution(), 32);
  EXPECT_EQ(all.eval().batch_size(), 3);
  EXPECT_EQ(all.eval().noise_strength(), 0.4);
  EXPECT_EQ(all.eval().num_seeds(), 4);
  EXPECT_EQ(all.device().num_threads(), 3);
  EXPECT_FALSE(all.topology().has_colocated());
  EXPECT_FALSE(job->best().has_value());
  EXPECT_THAT(job->Warnings(), ElementsAre());
  EXPECT_THAT(RewardNames(all), ElementsAre("classifier", "l1", "input_psnr", "input_ssim"))
      << "the distance that is there is not measured twice";
  EXPECT_TRUE(all.rewards(2).held_out());

  const v1::JobSpec base = WithoutLora(spec);
  EXPECT_FALSE(base.lora().has_init_from());
  EXPECT_EQ(base.name(), "deblur-eval-base");
}

TEST(EvaluationOf, HasNeitherGroupsNorTheAverage) {
  v1::JobSpec spec = Trained();
  spec.mutable_sample()->set_max_staleness(0);
  spec.mutable_sample()->set_group_size(4);
  spec.mutable_sample()->set_same_init_noise(true);
  spec.mutable_advantage()->set_mode("group");
  spec.mutable_train()->set_ema_decay(0.9);
  spec.mutable_eval()->set_use_ema(true);
  const absl::StatusOr<ResolvedJob> trained = ResolvedJob::Make(spec);
  ASSERT_TRUE(trained.ok()) << trained.status();
  const absl::StatusOr<ResolvedJob> job = Compose(EvaluationOf(trained->spec()), {});
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->spec().sample().group_size(), 1);
  EXPECT_FALSE(job->spec().eval().use_ema());
}

TEST(LoraOf, IsTheAverageWhereTheJobEvaluatesIt) {
  v1::Job job;
  job.set_id("job-000001");
  const auto lora = [&](bool best, bool ema) {
    const absl::StatusOr<std::string> path = LoraOf(job, best, ema);
    return path.ok() ? *path : std::string(path.status().message());
  };
  EXPECT_THAT(lora(false, false), HasSubstr("job-000001 has no checkpoint yet"));
  EXPECT_THAT(lora(true, false), HasSubstr("`checkpoint.best`"));
  job.set_lora_path("/c/epoch-000004/pytorch_lora_weights.safetensors");
  job.set_best_lora_path("/c/best-000002/pytorch_lora_weights.safetensors");
  EXPECT_EQ(lora(false, false), job.lora_path());
  EXPECT_EQ(lora(true, false), job.best_lora_path());
  EXPECT_THAT(lora(false, true), HasSubstr("`train.ema_decay` is 0"));
  job.mutable_spec()->mutable_train()->set_ema_decay(0.9);
  EXPECT_EQ(lora(false, false), job.lora_path()) << "its evaluations were of the LoRA";
  EXPECT_EQ(lora(false, true), "/c/epoch-000004/lora_ema.safetensors");
  EXPECT_THAT(lora(true, true), HasSubstr("two LoRAs"));
  job.mutable_spec()->mutable_eval()->set_use_ema(true);
  EXPECT_EQ(lora(false, false), "/c/epoch-000004/lora_ema.safetensors");
  EXPECT_EQ(lora(true, false), job.best_lora_path()) << "the average already";
  EXPECT_EQ(AverageBeside("c/epoch-000004"), "c/epoch-000004/lora_ema.safetensors");
}

TEST(EvaluationOf, AModelAloneNeedsNothingElse) {
  v1::JobSpec spec = EvaluationOfModel("sample", "m");
  spec.mutable_eval()->add_files("a.png");
  const absl::StatusOr<ResolvedJob> job = Compose(spec, {});
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_TRUE(job->micro_batch_is_open());
  EXPECT_EQ(job->WithMicroBatch(2)->spec().eval().batch_size(), 2) << "memory decides";
  AddDistances(/*to_targets=*/true, &spec);
  EXPECT_EQ(Compose(spec, {})->rewards().size(), 6U);
  v1::JobSpec tiny = EvaluationOfModel("sample", "m");
  tiny.mutable_data()->set_resolution(8);
  AddDistances(/*to_targets=*/false, &tiny);
  EXPECT_EQ(tiny.rewards_size(), 2) << "windows of ssim are larger than the images";
  EXPECT_THAT(std::string(Compose(spec, {"eval.num_seeds=0"}).status().message()),
              HasSubstr("this cannot run:\n  `eval.num_seeds` is 0"));
}

constexpr char kLeft[] =
    "{\"id\": \"a\", \"reward\": 3, \"seed\": 0, \"l1.value\": 0.5}\n"
    "{\"id\": \"b\", \"reward\": 5, \"seed\": 0, \"l1.value\": null}\n"
    "{\"id\": \"a\", \"reward\": 5, \"seed\": 1, \"l1.value\": 0.25}\n"
    "{\"id\": \"b\", \"reward\": 7, \"seed\": 1, \"l1.value\": 0.5}\n";
constexpr char kRight[] =
    "{\"id\": \"a\", \"reward\": 2, \"seed\": 0, \"l1.value\": 0}\n"
    "{\"id\": \"b\", \"reward\": 2, \"seed\": 0, \"l1.value\": 0}\n"
    "{\"id\": \"a\", \"reward\": 2, \"seed\": 1, \"l1.value\": 0}\n"
    "{\"id\": \"b\", \"reward\": 2, \"seed\": 1, \"l1.value\": 0}\n";

TEST(PairedDifferences, AreOfTheSameImagesUnderTheSameNoise) {
  const absl::StatusOr<Estimates> differences = PairedDifferences(kLeft, kRight, 2);
  ASSERT_TRUE(differences.ok()) << differences.status();
  EXPECT_EQ(differences->size(), 2U);
  // Of a 1 and 3, of b 3 and 5: the images' means are 2 and 4.
  EXPECT_EQ(differences->at("reward").mean, 3);
  EXPECT_DOUBLE_EQ(differences->at("reward").error, 1);
  // What is missing is left out: 0.5, 0.25 and 0.5.
  EXPECT_DOUBLE_EQ(differences->at("l1.value").mean, 1.25 / 3);
  EXPECT_EQ(PairedDifferences("{\"id\": \"a\", \"reward\": 1}", "{\"id\": \"a\", \"reward\": 1}", 1)
                ->at("reward")
                .error,
            0);

  EXPECT_THAT(std::string(PairedDifferences(kLeft, "", 2).status().message()),
              HasSubstr("not of the same images"));
  EXPECT_THAT(std::string(PairedDifferences("no row", kRight, 2).status().message()),
              HasSubstr("line 1"));
}

EvalResult Result() {
  return {.spec = *ParseJobYaml("rewards: [{type: classifier, measure: logit_change}, {type: l1, "
                                "held_out: true}]",
                                "job.yaml"),
          .num_images = 200,
          .with_lora = {{"reward", {1.5, 0.25}},
                        {"classifier.value", {1.5, 0.25}},
                        {"classifier.correct", {0.61, 0.0345}},
                        {"l1.value", {0.125, 0.01}}},
          .base = {},
          .difference = {}};
}

TEST(EvalTable, HasAccuracyAndRewardFirst) {
  EvalResult result = Result();
  for (v1::RewardSpec& reward : *result.spec.mutable_rewards()) reward.set_weight(1);
  EXPECT_EQ(EvalTable(result),
            "200 IMAGES                     WITH LORA       ±\n"
            "accuracy (classifier.correct)       0.61  0.0345\n"
            "reward                               1.5    0.25\n"
            "classifier.value                     1.5    0.25\n"
            "l1.value                           0.125    0.01\n");
  result.base = result.with_lora;
  result.difference = Estimates{{"reward", {0.5, 0.125}}};
  EXPECT_THAT(EvalTable(result), HasSubstr("BASE MODEL"));
  const auto json = nlohmann::json::parse(EvalJson(result));
  EXPECT_EQ(json["num_images"], 200);
  EXPECT_EQ(json["measures"]["reward"]["mean"], 1.5);
  EXPECT_EQ(json["measures"]["reward"]["base_stderr"], 0.25);
  EXPECT_EQ(json["measures"]["reward"]["difference_mean"], 0.5);
  EXPECT_FALSE(json["measures"]["l1.value"].contains("difference_mean"));
}

TEST(EvalTable, HasNoRewardWhereNoneCounts) {
  EvalResult result = Result();
  for (v1::RewardSpec& reward : *result.spec.mutable_rewards()) reward.set_held_out(true);
  EXPECT_THAT(EvalTable(result), Not(HasSubstr("\nreward")));
}

}  // namespace
}  // namespace imageddpo

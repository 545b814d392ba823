#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/config/job_config.h"
#include "common/config/resolved_job.h"
#include "tests/unit/config/good_job.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ValidateJob, AcceptsAGoodJob) { EXPECT_TRUE(Judge({}).ok()) << Judge({}); }

struct Case {
  const char* setting;
  const char* message;
};

class ValidateJobTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidateJobTest, RefusesAndNamesTheSetting) {
  EXPECT_THAT(Refusal({GetParam().setting}), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Settings, ValidateJobTest,
    ::testing::Values(
        Case{"name=", "`name` is ``; it must be 1 to 64 letters, digits"},
        Case{"name=a b", "`name` is `a b`"}, Case{"name=../../etc", "`name`"},
        Case{"model.path=", "`model.path` is not given; it must be a folder"},
        Case{"model.precision=fp23",
             "`model.precision` is `fp23`; it must be one of fp32, bf16, fp16; did you mean "
             "`fp32`?"},
        Case{"lora.rank=0", "`lora.rank` is 0; it must be a whole number from 1 to 1024"},
        Case{"lora.alpha=0", "`lora.alpha` is 0; it must be above 0"},
        Case{"lora.target_modules=[to_q, to_q]", "`lora.target_modules` has `to_q` twice"},
        Case{"lora.target_modules=['']", "`lora.target_modules` is ``"},
        Case{"data.path=", "`data.path` is not given"},
        Case{"data.resolution=-1", "`data.resolution` is -1"},
        Case{"data.resolution=[0, 512]", "`data.width` is 0; it must be a whole number from 1"},
        Case{"data.height=512", "`data.width` is 0"},
        Case{"data.resize=cropped", "`data.resize` is `cropped`; it must be one of crop, pad"},
        Case{"data.corrupt={kind: fogg}", "did you mean `fog`?"},
        Case{"data.corrupt={kind: frost}", "frost lays ImageNet-C's own photographs"},
        Case{"data.corrupt={severity: 2}", "`data.corrupt.kind` is not given"},
        Case{"data.corrupt={kind: fog, severity: 6}", "`data.corrupt.severity` is 6"},
        Case{"data.severity=6", "`data.severity` is 6; it must be a whole number from 0 to 5"},
        Case{"eval.path=", "`eval.path` is not given"},
        Case{"eval.batch_size=0", "`eval.batch_size` is 0"},
        Case{"rewards=[]", "`rewards` is empty"},
        Case{"rewards.0.type=jpg",
             "`rewards[0].type` is `jpg`; it must be one of classifier, jpeg, service, l1, l2, "
             "psnr, ssim, image_stat, kl_to_base, torchscript; did you mean `jpeg`?"},
        Case{"rewards=[{type: classifier, measure: logit_change}]",
             "`rewards[0].model` is not given"},
        Case{"rewards=[{type: classifier, model: m, measure: logits}]",
             "`rewards[0].measure` is `logits`"},
        Case{"rewards=[{type: classifier, model: m}]",
             "`rewards[0].measure` is not given; it must be one of logit_change, margin_change, "
             "logit_max_margin"},
        Case{"rewards=[{type: classifier, model: m, measure: logit_change, jpeg_quality: 3}]",
             "`rewards[0].jpeg_quality` is no setting of `type: classifier`"},
        Case{"rewards.0.model=x", "`rewards[0].model` is no setting of `type: jpeg`"},
        Case{"rewards.0.jpeg_quality=101", "from 1 to 100"},
        Case{"rewards.0.clamp=-1", "`rewards[0].clamp` is -1"},
        Case{"rewards.0.weight=0", "each of `rewards` has `weight: 0` or is held out"},
        Case{"rewards.0.held_out=true", "each of `rewards` has `weight: 0` or is held out"},
        Case{"rewards.0.scale=0", "`rewards[0].scale` is 0; it must be a finite number other than"},
        Case{"rewards.0.warmup_epochs=-1", "`rewards[0].warmup_epochs` is -1"},
        Case{"rewards.0.reference=input", "`rewards[0].reference` is no setting of `type: jpeg`"},
        Case{"rewards=[{type: l1, reference: inputs}]",
             "`rewards[0].reference` is `inputs`; it must be one of input, target"},
        Case{"rewards=[{type: ssim, measure: l1}]", "`rewards[0].measure` is no setting of"},
        Case{"rewards=[{type: torchscript}]", "`rewards[0].model` is not given"},
        Case{"rewards=[{type: image_stat, measure: entropy}]",
             "`rewards[0].measure` is `entropy`; it must be one of brightness, contrast"},
        Case{"rewards.0.on_nan=skip",
             "`rewards[0].on_nan` is `skip`; it must be one of fail, drop"},
        Case{"rewards.0.max_dropped=1", "`rewards[0].max_dropped` is 1; it must be from 0 to"},
        Case{"advantage.combine=product", "`advantage.combine` is `product`"},
        Case{"rewards=[{type: service}]", "`rewards[0].endpoints` has 0 addresses"},
        Case{"rewards=[{type: service, endpoints: [here]}]",
             "`rewards[0].endpoints`: `here` is no HOST:PORT; it must be HOST:PORT, [IPV6]:PORT"},
        Case{"rewards=[{type: service, endpoints: ['unix:sock']}]", "must have an absolute path"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], timeout_seconds: 0}]",
             "`rewards[0].timeout_seconds` is 0; it must be from 0.1 to 86400"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], max_outage_seconds: 1e9}]",
             "from 0 to 604800"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], max_retries: 101}]", "from 0 to 100"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], on_error: skip}]",
             "`rewards[0].on_error` is `skip`; it must be one of retry, fail, drop"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], on_error: drop, max_dropped: 1}]",
             "`rewards[0].max_dropped` is 1; it must be from 0 to"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], token_file: t}]",
             "`rewards[0].token_file` needs `rewards[0].tls_ca_file`"},
        Case{"rewards=[{type: service, endpoints: ['a:1'], model: m}]",
             "`rewards[0].model` is no setting of `type: service`"},
        Case{"rewards.0.on_error=retry", "`rewards[0].on_error` is `retry`; it must be fail"},
        Case{"rewards.0.on_error=drop", "`rewards[0].on_error` is `drop`; it must be fail"},
        Case{"rewards=[{type: classifier, model: m, measure: logit_change, on_error: retry}]",
             "`rewards[0].on_error` is `retry`; it must be one of fail, drop"},
        Case{"rewards.0.timeout_seconds=3", "is a setting of `type: service` alone"},
        Case{"rewards.0.name=Two Words", "`rewards[0].name` is `Two Words`"},
        Case{"sample.num_steps=0", "`sample.num_steps` is 0"},
        Case{"sample.noise_strength=0",
             "`sample.noise_strength` is 0; it must be above 0 and at most 1"},
        Case{"sample.noise_strength=1.01", "`sample.noise_strength` is 1.01"},
        Case{"sample.guidance_scale=-1", "`sample.guidance_scale` is -1"},
        Case{"sample.guidance_rescale=2", "`sample.guidance_rescale` is 2"},
        Case{"sample.eta=0", "`sample.eta` is 0; it must be above 0: without noise"},
        Case{"sample.batch_size=0", "`sample.batch_size` is 0"},
        Case{"sample.num_batches_per_epoch=-2", "`sample.num_batches_per_epoch` is -2"},
        Case{"sample.max_staleness=-1", "`sample.max_staleness` is -1; it must be a whole number"},
        Case{"sample.max_staleness=17", "from 0 to 16"},
        Case{"train.staleness_weight_cap=0.5",
             "`train.staleness_weight_cap` is 0.5; it must be at least 1"},
        Case{"train.batch_size=0", "`train.batch_size` is 0"},
        Case{"train.gradient_accumulation_steps=0", "`train.gradient_accumulation_steps` is 0"},
        Case{"train.learning_rate=0", "`train.learning_rate` is 0; it must be above 0"},
        Case{"train.lr_schedule=linear",
             "`train.lr_schedule` is `linear`; it must be one of constant, cosine"},
        Case{"train.lr_warmup_updates=-1", "`train.lr_warmup_updates` is -1"},
        Case{"train.lr_min_ratio=2", "`train.lr_min_ratio` is 2; it must be from 0 to 1"},
        Case{"train.max_grad_zscore=-1", "`train.max_grad_zscore` is -1; it must be 0"},
        Case{"max_stage_seconds=-1", "`max_stage_seconds` is -1; it must be 0 (no limit)"},
        Case{"guards.non_finite=warn",
             "`guards.non_finite` is `warn`; it must be one of skip, rollback, pause, fail"},
        Case{"guards.reward_collapse={policy: skip}",
             "`guards.reward_collapse.policy` cannot be `skip`: it judges epochs"},
        Case{"guards.gradient_spike={policy: skip}", "with `train.max_grad_zscore`"},
        Case{"guards.held_out={policy: stop}", "`guards.held_out.policy` is `stop`"},
        Case{"guards.approx_kl={threshold: -1}", "`guards.approx_kl.threshold` is -1"},
        Case{"guards.kl_to_base={threshold: 2}", "nothing measures that divergence"},
        Case{"guards.max_rollbacks=0", "`guards.max_rollbacks` is 0"},
        Case{"guards.rollback_lr_factor=0", "`guards.rollback_lr_factor` is 0; it must be above 0"},
        Case{"train.ema_decay=1", "`train.ema_decay` is 1; it must be from 0 (no average)"},
        Case{"train.ema_warmup_updates=-1", "`train.ema_warmup_updates` is -1"},
        Case{"eval.use_ema=true", "`eval.use_ema` needs an average: set `train.ema_decay`"},
        Case{"train.clip_range=1", "`train.clip_range` is 1"},
        Case{"train.clip_range_low=1", "`train.clip_range_low` is 1; it must be from 0"},
        Case{"train.clip_range_high=-1", "`train.clip_range_high` is -1"},
        Case{"train.trust_region=clip",
             "`train.trust_region` is `clip`; it must be one of ratio, kl"},
        Case{"train.kl_limit=0", "`train.kl_limit` is 0; it must be above 0"},
        Case{"train.kl_coef=-0.1", "`train.kl_coef` is -0.1; it must be 0 (no such term)"},
        Case{"rewards=[{type: kl_to_base, measure: sum}]",
             "`rewards[0].measure` is no setting of `type: kl_to_base`"},
        Case{"train.num_inner_epochs=0", "`train.num_inner_epochs` is 0"},
        Case{"train.adv_clip_max=0", "`train.adv_clip_max` is 0"},
        Case{"train.max_grad_norm=-1", "`train.max_grad_norm` is -1"},
        Case{"train.adam_beta1=1", "`train.adam_beta1` is 1; it must be from 0 to below 1"},
        Case{"train.adam_beta2=-0.1", "`train.adam_beta2` is -0.1"},
        Case{"train.adam_weight_decay=-1", "`train.adam_weight_decay` is -1"},
        Case{"train.weight_decay_to=base",
             "`train.weight_decay_to` is `base`; it must be one of zero, initial"},
        Case{"train.adam_epsilon=0", "`train.adam_epsilon` is 0"},
        Case{"train.min_8bit_size=-1", "`train.min_8bit_size` is -1"},
        Case{"train.reduce=ring", "`train.reduce` is `ring`; it must be one of exact, fast"},
        Case{"train.optimizer=sgd",
             "`train.optimizer` is `sgd`; it must be one of adamw, adamw8bit"},
        Case{"train.update=single_pass",
             "`train.update: single_pass` is not possible: an epoch has 4 updates, and from the "
             "second one on the weights are not those that sampled; raise `train.batch_size`"},
        Case{"train.update=replya", "did you mean `replay`?"},
        Case{"train.gradient_shards=99", "`train.gradient_shards` is 99; it must be from 0"},
        Case{"advantage.mode=local",
             "`advantage.mode` is `local`; it must be one of global, per_key"},
        Case{"advantage.mode=group",
             "`sample.group_size` is 1; it must be at least 2 with `advantage.mode: group`"},
        Case{"sample.group_size=3", "must be a multiple of `sample.group_size` 3"},
        Case{"advantage.std_of=epoch",
             "`advantage.std_of` is `epoch`; it must be one of group, global, none"},
        Case{"advantage.zero_std=skip",
             "`advantage.zero_std` is `skip`; it must be one of keep, drop, resample"},
        Case{"advantage.stat_key=image_id", "`advantage.stat_key`"},
        Case{"advantage.buffer_size=0", "`advantage.buffer_size` is 0"},
        Case{"num_epochs=0", "`num_epochs` is 0"},
        Case{"checkpoint.every_epochs=0", "`checkpoint.every_epochs` is 0"},
        Case{"checkpoint.keep=-1", "`checkpoint.keep` is -1"},
        Case{"checkpoint.every_minutes=-0.5", "`checkpoint.every_minutes` is -0.5"},
        Case{"device.num_threads=-1", "`device.num_threads` is -1"},
        Case{"device.device_batch_size=-1", "`device.device_batch_size` is -1"},
        Case{"topology={rollout: 1}", "`topology` has `rollout` alone; it needs `trainer` as well"},
        Case{"topology={colocated: 1, trainer: 1}",
             "`topology` has `colocated` and `rollout`/`trainer`"},
        Case{"topology={colocated: 0}", "`topology.colocated` is 0"},
        Case{"topology={min_rollout: 1}", "`topology.min_rollout` needs `topology.rollout`"},
        Case{"topology={colocated: 1, min_trainer: 1}",
             "`topology.min_trainer` needs `topology.trainer`"},
        Case{"topology={rollout: 2, trainer: 1, min_rollout: 3}",
             "`topology.min_rollout` is 3; it must be from 1 to 2"},
        Case{"topology={colocated: 1, min_colocated: 0}",
             "`topology.min_colocated` is 0; it must be from 1 to 1"},
        Case{"topology={rollout: 5, trainer: 1}",
             "`topology.rollout` is 5; it must be from 1 to 4, the micro-batches of an epoch (of 8 "
             "samples each)"},
        Case{"topology={rollout: 1, trainer: 2}",
             "`topology.trainer` is 2; it must be from 1 to 1, the gradient shards of an update"}));

TEST(ValidateJob, ASinglePassNamesWhatKeepsItFromBeingExact) {
  const std::vector<std::string> one_update = {"train.update=single_pass", "train.batch_size=32",
                                               "topology={colocated: 1}"};
  EXPECT_TRUE(Judge(one_update).ok()) << Judge(one_update);
  const auto refusal = [&](const std::string& setting) {
    std::vector<std::string> settings = one_update;
    settings.push_back(setting);
    return Refusal(settings);
  };
  EXPECT_THAT(refusal("train.num_inner_epochs=2"), HasSubstr("`train.num_inner_epochs` is 2"));
  EXPECT_THAT(refusal("train.batch_size=16"), HasSubstr("an epoch has 2 updates"));
  EXPECT_THAT(refusal("topology=auto"), HasSubstr("set `topology: {colocated: C}`"));
  EXPECT_THAT(refusal("topology={rollout: 1, trainer: 1}"),
              HasSubstr("or use `train.update: replay`"));
}

TEST(ValidateJob, SsimNeedsImagesOfItsWindow) {
  constexpr char kSsim[] = "rewards=[{type: l1}, {type: ssim}]";
  EXPECT_THAT(Refusal({kSsim, "data.resolution=8"}),
              HasSubstr("`rewards[1].type: ssim` compares windows of 11x11 pixels and `data` makes "
                        "images of 8x8"));
  EXPECT_THAT(Refusal({kSsim, "data.resolution=[64, 8]"}), HasSubstr("images of 64x8"));
  EXPECT_TRUE(Judge({kSsim}).ok()) << "the size is the model's";
  EXPECT_TRUE(Judge({kSsim, "data.resolution=[16, 16]"}).ok());
}

TEST(ValidateJob, RefusesNumbersThatAreNone) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    v1::JobSpec job = With({});
    job.mutable_train()->set_learning_rate(bad);
    job.mutable_sample()->set_guidance_scale(bad);
    job.mutable_rewards(0)->set_weight(bad);
    const std::string message(ResolvedJob::Make(job).status().message());
    EXPECT_THAT(message, HasSubstr("train.learning_rate"));
    EXPECT_THAT(message, HasSubstr("sample.guidance_scale"));
    EXPECT_THAT(message, HasSubstr("rewards[0].weight"));
  }
}

TEST(ValidateJob, WithoutEpochsNeitherDataNorRewardsAreNeeded) {
  v1::JobSpec job = With({"num_epochs=0", "eval.path=e"});
  EXPECT_THAT(ResolvedJob::Make(job)->Warnings(),
              ElementsAre(HasSubstr("`data.path` is not read")));
  job.mutable_data()->clear_path();
  job.clear_rewards();
  const absl::StatusOr<ResolvedJob> judged = ResolvedJob::Make(job);
  ASSERT_TRUE(judged.ok()) << judged.status();
  EXPECT_FALSE(judged->trains());
  EXPECT_THAT(judged->Warnings(), IsEmpty());
  job.mutable_eval()->clear_path();
  job.mutable_eval()->add_files("a.png");
  EXPECT_TRUE(ResolvedJob::Make(job).ok());
  job.set_num_epochs(1);
  const std::string message(ResolvedJob::Make(job).status().message());
  EXPECT_THAT(message, AllOf(HasSubstr("`data.path`"), HasSubstr("`rewards`")));
}

TEST(ValidateJob, WithoutEpochsThereIsSomethingToEvaluate) {
  EXPECT_THAT(Refusal({"num_epochs=0"}), HasSubstr("evaluates once; give `eval.path`"));
  EXPECT_THAT(Refusal({"num_epochs=-1"}), HasSubstr("`num_epochs` is -1"));
  EXPECT_THAT(Refusal({"eval.path=e", "eval.files=[a.png]"}), HasSubstr("`path` and `files`"));
  EXPECT_THAT(Refusal({"eval.files=[a.png, a.png]"}), HasSubstr("has `a.png` twice"));
}

TEST(ValidateJob, TheBestIsOfANumberThatEvaluationsHave) {
  for (const char* best : {"reward", "jpeg.value", "jpeg.bytes"}) {
    const absl::StatusOr<ResolvedJob> job = ResolvedJob::Make(
        With({"eval.path=e", absl::StrCat("checkpoint.best=", best), "checkpoint.best_mode=min"}));
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_EQ(job->best()->measure, best);
    EXPECT_EQ(job->best()->mode, BestMode::kMin);
  }
  EXPECT_FALSE(ResolvedJob::Make(With({"eval.path=e"}))->best().has_value());
  EXPECT_THAT(Refusal({"eval.path=e", "checkpoint.best=jpeg.byte"}),
              AllOf(HasSubstr("one of reward, jpeg.value, jpeg.bytes"),
                    HasSubstr("did you mean `jpeg.bytes`?")));
  EXPECT_THAT(Refusal({"checkpoint.best=reward"}), HasSubstr("the job has none; give `eval.path`"));
  EXPECT_THAT(Refusal({"checkpoint.best_mode=least"}), HasSubstr("one of max, min"));
  // What a model names is known when it has scored.
  const std::string scorer = "rewards=[{type: torchscript, name: taste, model: m.pt}]";
  EXPECT_TRUE(Judge({scorer, "eval.path=e", "checkpoint.best=taste.colour"}).ok());
  EXPECT_THAT(Refusal({scorer, "eval.path=e", "checkpoint.best=tast.colour"}),
              HasSubstr("`checkpoint.best`"));
}

TEST(ValidateJob, TellsAllFaultsAtOnce) {
  const std::string message = Refusal({"num_epochs=0", "lora.rank=-1", "train.batch_size=5"});
  EXPECT_THAT(message, HasSubstr("`num_epochs`"));
  EXPECT_THAT(message, HasSubstr("`lora.rank`"));
  EXPECT_THAT(message, HasSubstr("must be a multiple of the samples of an update"));
}

TEST(ValidateJob, AMinCountAboveTheBufferIsRefusedOnlyWhereItMatters) {
  EXPECT_THAT(
      Refusal({"advantage.mode=per_key", "advantage.min_count=17"}),
      HasSubstr("`advantage.min_count` is 17; it must be at most `advantage.buffer_size` (16)"));
  EXPECT_TRUE(Judge({"advantage.min_count=17"}).ok());
}

TEST(JobWarnings, AreSilentOnAGoodJob) { EXPECT_THAT(Warnings({}), IsEmpty()); }

TEST(JobWarnings, TellWhereDiffusersRunsAnotherNumberOfSteps) {
  EXPECT_THAT(Warnings({"sample.num_steps=10", "sample.noise_strength=0.8"}),
              ElementsAre(AllOf(HasSubstr("0.8 of 10 steps runs 9 of them"),
                                HasSubstr("pipelines run 8"), HasSubstr("strength=0.9"))));
  EXPECT_THAT(Warnings({"sample.num_steps=10", "sample.noise_strength=0.25"}),
              ElementsAre(AllOf(HasSubstr("runs 3"), HasSubstr("run 2"))));
  for (const char* strength : {"0.1", "0.3", "0.5", "0.7", "1"}) {
    EXPECT_THAT(Warnings({"sample.num_steps=10", std::string("sample.noise_strength=") + strength}),
                IsEmpty())
        << strength;
  }
  // The strength that is named makes them run as many as the job.
  for (const int64_t steps : {1, 2, 3, 7, 10, 13, 26, 50}) {
    for (int percent = 1; percent <= 100; ++percent) {
      const double strength = percent / 100.0;
      const auto job = ResolvedJob::Make(With({absl::StrCat("sample.num_steps=", steps),
                                               absl::StrCat("sample.noise_strength=", strength)}));
      ASSERT_TRUE(job.ok()) << job.status();
      const std::vector<std::string> warnings = job->Warnings();
      const double theirs = std::trunc(static_cast<double>(steps) * strength);
      ASSERT_EQ(warnings.empty(), theirs == static_cast<double>(job->executed_steps()));
      if (warnings.empty()) continue;
      const std::string& text = warnings.front();
      const double named = std::stod(text.substr(text.find("strength=") + 9));
      EXPECT_EQ(std::trunc(static_cast<double>(steps) * named), job->executed_steps()) << text;
      EXPECT_LE(named, 1);
    }
  }
}

TEST(JobWarnings, TellWhatRewardsDoNot) {
  const auto of = [](const std::string& rewards) {
    return Warnings({"rewards=[{type: l1}, " + rewards + "]"});
  };
  EXPECT_THAT(of("{type: l2, normalize: true, warmup_epochs: 5}"), IsEmpty());
  EXPECT_THAT(of("{type: l2, normalize: true, held_out: true}"),
              ElementsAre(HasSubstr("`rewards[1].normalize` has no effect")));
  EXPECT_THAT(of("{type: l2, warmup_epochs: 3, weight: 0}"),
              ElementsAre(HasSubstr("`rewards[1].warmup_epochs` has no effect")));
  EXPECT_THAT(of("{type: l2, warmup_epochs: 100}"),
              ElementsAre(HasSubstr("never has its whole weight")));
  EXPECT_THAT(Warnings({"rewards=[{type: l1, warmup_epochs: 2}]"}),
              ElementsAre(HasSubstr("nothing is rewarded in the first epoch")));
  EXPECT_THAT(Warnings({"rewards=[{type: l1, normalize: true}]", "advantage.combine=per_reward"}),
              ElementsAre(HasSubstr("which normalises every reward")));
}

TEST(JobWarnings, TellWhatHasNoEffect) {
  EXPECT_THAT(Warnings({"data.prompt=a cat"}),
              ElementsAre(HasSubstr("`data.prompt` is not used: with `sample.guidance_scale` 1 ")));
  EXPECT_THAT(Warnings({"data.prompt=a cat", "sample.guidance_scale=1.5"}), IsEmpty());
  EXPECT_THAT(Warnings({"sample.guidance_rescale=0.5"}),
              ElementsAre(HasSubstr("`sample.guidance_rescale` has no effect")));
  EXPECT_THAT(Warnings({"eval.every_epochs=5"}),
              ElementsAre(HasSubstr("`eval.every_epochs` has no effect without `eval.path`")));
  EXPECT_THAT(Warnings({"train.clip_range=0.5"}), ElementsAre(HasSubstr("`train.clip_range` 0.5")));
  // 4 updates an epoch.
  EXPECT_THAT(Warnings({"train.lr_warmup_updates=399"}), IsEmpty());
  EXPECT_THAT(Warnings({"train.lr_warmup_updates=400"}),
              ElementsAre(HasSubstr("the job has 400 updates")));
  EXPECT_THAT(Warnings({"train.lr_min_ratio=0.1"}),
              ElementsAre(HasSubstr("`train.lr_min_ratio` has no effect")));
  EXPECT_THAT(Warnings({"train.lr_min_ratio=0.1", "train.lr_schedule=cosine"}), IsEmpty());
  EXPECT_THAT(Warnings({"sample.max_staleness=1", "topology={colocated: 1}"}),
              ElementsAre(HasSubstr("`sample.max_staleness` gains no time")));
  EXPECT_THAT(Warnings({"sample.max_staleness=1"}), IsEmpty());
  EXPECT_THAT(Warnings({"device.allow_tf32=true"}),
              ElementsAre(HasSubstr("on a CPU it changes nothing")));
  EXPECT_THAT(
      Warnings({"train.reduce=fast", "topology={colocated: 2}", "device.device_batch_size=4"}),
      ElementsAre(HasSubstr("the result depends on the number of trainer ranks")));
  EXPECT_THAT(Warnings({"train.reduce=fast", "topology={rollout: 2, trainer: 1}"}), IsEmpty());
  EXPECT_THAT(Warnings({"sample.same_init_noise=true"}),
              ElementsAre(HasSubstr("without a `sample.group_size` above 1")));
  EXPECT_THAT(Warnings({"advantage.std_of=none", "advantage.zero_std=drop"}),
              ElementsAre(HasSubstr("`advantage.std_of` has no effect without"),
                          HasSubstr("`advantage.zero_std` has no effect without")));
  EXPECT_THAT(Warnings({"sample.group_size=4", "sample.same_init_noise=true",
                        "advantage.mode=group", "advantage.leave_one_out=true"}),
              IsEmpty());
  EXPECT_THAT(Warnings({"checkpoint.keep=1"}), ElementsAre(HasSubstr("`checkpoint.keep: 1`")));
  EXPECT_THAT(
      Warnings({"sample.batch_size=1", "sample.num_batches_per_epoch=1", "train.batch_size=1"}),
      ElementsAre(HasSubstr("an epoch has one sample")));
}

}  // namespace
}  // namespace imageddpo

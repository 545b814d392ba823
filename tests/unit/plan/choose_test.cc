#include "common/plan/choose.h"

#include <optional>
#include <string>
#include <vector>

#include "common/config/job_config.h"
#include "common/plan/nominal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// `topology: auto`, 8 samples an epoch in 8 micro-batches, one update, 2 executed steps.
ResolvedJob JobWith(const std::vector<std::string>& settings = {}) {
  v1::JobSpec spec = *ParseJobYaml(
      "model: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: compressibility}]\n"
      "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 8, "
      "num_batches_per_epoch: 1}\ntrain: {batch_size: 8}\ndevice: {device_batch_size: 1}\n",
      "job.yaml");
  for (const std::string& setting : settings) {
    EXPECT_TRUE(ApplyJobSetting(setting, &spec).ok()) << setting;
  }
  return *ResolvedJob::Make(spec);
}

PlanInputs Nominal() { return NominalInputs(std::nullopt, /*on_gpus=*/false, 0); }

std::string Chosen(const ResolvedJob& job, int num_ranks, const PlanInputs& inputs = Nominal()) {
  const auto choice = ChooseTopology(job, num_ranks, inputs);
  return choice.ok() ? choice->topology.ToString() : std::string(choice.status().message());
}

TEST(ChooseTopology, OfEightEqualRanksIsTheBestOfAMeasuredTableToo) {
  for (const bool on_gpus : {false, true}) {
    const PlanInputs nominal = NominalInputs(std::nullopt, on_gpus, 0);
    // Another device than the nominal one: slower, an update of 2.6 steps, a decoder of 2 steps.
    PlanInputs measured = nominal;
    const double step = nominal.model.unet.flops;
    measured.costs.sample_step = CostCurve({{step, 20}});
    measured.costs.replay_step = CostCurve({{step, 52}});
    measured.costs.decode = CostCurve({{nominal.model.decoder.flops, 40}});
    for (const char* setting : {"seed=1", "sample.max_staleness=1", "sample.guidance_scale=5"}) {
      const ResolvedJob job = JobWith({setting});
      const auto choice = ChooseTopology(job, 8, nominal);
      ASSERT_TRUE(choice.ok()) << choice.status();
      EXPECT_EQ(choice->topology.ToString(), "colocated 8") << setting;
      EXPECT_THAT(choice->why, AllOf(HasSubstr("colocated 8: an epoch is predicted to take"),
                                     HasSubstr("; the next best is rollout ")));
      const auto table = PredictAll(job, 8, measured);
      ASSERT_TRUE(table.ok()) << table.status();
      for (const Prediction& row : *table) {
        EXPECT_FALSE(row.single_pass) << "auto has one update whatever the pool";
        if (row.topology == choice->topology) {
          EXPECT_LE(row.epoch_seconds, 1.05 * table->front().epoch_seconds) << setting;
        }
      }
    }
  }
}

TEST(ChooseTopology, TakesAllRanksThatHaveWork) {
  EXPECT_EQ(Chosen(JobWith(), 1), "colocated 1");
  EXPECT_THAT(ChooseTopology(JobWith(), 1, Nominal())->why, HasSubstr("there is no other choice"));
  EXPECT_EQ(Chosen(JobWith(), 2), "colocated 2");
  EXPECT_EQ(Chosen(JobWith(), 100), "colocated 8");
  // One trainer at most: further ranks can only sample.
  const ResolvedJob one_shard = JobWith({"train.gradient_shards=1"});
  EXPECT_EQ(Chosen(one_shard, 8), "rollout 7, trainer 1");
  EXPECT_EQ(Chosen(one_shard, 3), "rollout 2, trainer 1");
  EXPECT_EQ(Chosen(one_shard, 1), "colocated 1");
}

TEST(ChooseTopology, TakesWhatTheJobNames) {
  const ResolvedJob named = JobWith({"topology={rollout: 2, trainer: 1}"});
  EXPECT_EQ(Chosen(named, 8), "rollout 2, trainer 1");
  EXPECT_EQ(ChooseTopology(named, 8, Nominal())->why, "");
  EXPECT_THAT(Chosen(named, 2), HasSubstr("but the pool has 2"));
  EXPECT_THAT(Chosen(JobWith(), 0), HasSubstr("the pool has no worker"));
  const ResolvedJob evaluation = JobWith({"num_epochs=0", "eval.path=e"});
  EXPECT_EQ(Chosen(evaluation, 4), "colocated 1");
}

TEST(ChooseTopology, PrefersRanksThatFitTheMemory) {
  ModelCount model;
  model.unet = {.flops = 100,
                .parameters = 1e6,
                .lora_parameters = 1000,
                .saved_values = 5e6,
                .live_values = 1e5};
  model.encoder = model.decoder = model.text = {.flops = 10, .parameters = 1e5, .live_values = 1e5};
  model.latent_channels = 1;
  model.latent = {2, 2};
  model.image = {1, 1};
  // A trainer needs 24 MB, a colocated rank the weights of the other parts as well: 25.2.
  const auto choice = ChooseTopology(JobWith(), 5, NominalInputs(model, false, 25e6));
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_TRUE(choice->fits);
  EXPECT_FALSE(choice->topology.colocated);
  const auto none = ChooseTopology(JobWith(), 5, NominalInputs(model, false, 1e6));
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_FALSE(none->fits);
  EXPECT_THAT(none->why, HasSubstr("it does not fit the memory"));
}

TEST(CloseUpdate, LooksAtTheLoraAndAtTheMemory) {
  const auto update = [](int ranks, const std::optional<ModelCount>& model, double memory_bytes,
                         const std::string& asked = "auto") {
    const ResolvedJob job =
        JobWith({"sample.batch_size=1024", "train.batch_size=1024", "device.device_batch_size=8",
                 "train.update=" + asked, "topology={colocated: " + std::to_string(ranks) + "}"});
    return CloseUpdate(job, model, memory_bytes)->spec().train().update();
  };
  // Not known: 4 · 0.8 MB for each of 1024 + 8 rows, 3.3 GB; on two ranks, of 512 + 8.
  EXPECT_EQ(update(1, std::nullopt, 0), "replay");
  EXPECT_EQ(update(2, std::nullopt, 0), "single_pass");
  EXPECT_EQ(update(1, std::nullopt, 12e9), "replay");
  EXPECT_EQ(update(1, std::nullopt, 16e9), "single_pass");
  EXPECT_EQ(update(1, std::nullopt, 12e9, "single_pass"), "single_pass") << "as asked";
  ModelCount model;
  model.unet.lora_parameters = 1000;
  EXPECT_EQ(update(1, model, 0), "single_pass");
  EXPECT_EQ(update(1, model, 0, "replay"), "replay") << "as asked";
  model.unet.lora_parameters = 1e6;  // 4.1 GB.
  EXPECT_EQ(update(1, model, 0), "replay");
  EXPECT_EQ(update(1, model, 17e9), "single_pass");
}

}  // namespace
}  // namespace imageddpo

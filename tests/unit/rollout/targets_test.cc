// What a rollout rank sends where the job learns from target images.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <set>
#include <string>

#include "common/diffusion/ddim_scheduler.h"
#include "common/diffusion/keyed_noise.h"
#include "tests/unit/rollout/rollout_fixture.h"

namespace imageddpo {
namespace {

class TargetsTest : public RolloutFixture {
 protected:
  TargetsTest() {
    job_.mutable_train()->set_objective("sft");
    v1::CorruptSpec& corrupt = *job_.mutable_data()->mutable_corrupt();
    corrupt.set_kind("gaussian_noise");
    corrupt.set_severity(5);
    job_ = Judged(job_).spec();
  }

  TrajectoryBatch Sample(int64_t epoch, int64_t micro_batch) {
    Pipeline pipeline = LoadModel();
    auto batch = Scored(Make(&pipeline)->Sample(epoch, micro_batch, 0, false));
    EXPECT_TRUE(batch.ok()) << batch.status();
    return *std::move(batch);
  }
};

TEST_F(TargetsTest, TheCleanImagesAreNoisedAsTheFormulaSays) {
  const Pipeline model = LoadModel();
  const auto& scheduler = dynamic_cast<const DdimScheduler&>(*model.step_rule);
  const Schedule schedule =
      *scheduler.MakeSchedule(job_.sample().num_steps(), job_.sample().noise_strength());
  const std::set<int64_t> executed(schedule.timesteps.begin(), schedule.timesteps.end());
  DatasetOptions options;
  options.form = {.corrupt = Judged(job_).data().corrupt};
  const auto dataset = Dataset::Open(dir_ / "data", options);
  ASSERT_TRUE(dataset.ok()) << dataset.status();

  std::set<int64_t> drawn;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const TrajectoryBatch batch = Sample(epoch, 1);
    ASSERT_EQ(batch.latents.size(1), 2);
    ASSERT_EQ(batch.timesteps_BK.size(1), 1);
    EXPECT_EQ(batch.parts_BP.numel(), 0);
    EXPECT_EQ(batch.rewards_B.abs().sum().item<double>(), 0);
    for (int64_t i = 0; i < batch.batch_size(); ++i) {
      const auto t = batch.timesteps_BK[i][0].item<int64_t>();
      EXPECT_TRUE(executed.contains(t)) << t;
      drawn.insert(t);
      const auto noise = [&](StreamPurpose purpose) {
        return KeyedNormal({.seed = job_.seed(),
                            .purpose = purpose,
                            .epoch = static_cast<uint64_t>(epoch),
                            .sample = static_cast<uint64_t>(batch.first_sample + i)},
                           batch.latents[i][0].sizes());
      };
      const at::Tensor target = batch.latents[i][1];
      EXPECT_TRUE(target.equal(noise(StreamPurpose::kInitNoise))) << "of an epsilon model";
      int64_t example = 0;
      while (dataset->at(example).id != batch.image_ids[i]) ++example;
      const auto posterior =
          EncodeImages(*model.vae, dataset->LoadTarget(example, 32, 32)->unsqueeze(0));
      const at::Tensor x0 =
          (posterior.mean_BCHW[0] + posterior.std_BCHW[0] * noise(StreamPurpose::kEncodeNoise)) *
          model.vae->config().scaling_factor;
      const auto alpha = scheduler.alphas_cumprod()[t].item<double>();
      const at::Tensor expected = std::sqrt(alpha) * x0 + std::sqrt(1 - alpha) * target;
      EXPECT_LT((batch.latents[i][0] - expected).abs().max().item<double>(), 1e-5) << i;
    }
  }
  EXPECT_EQ(drawn, executed) << "12 draws from two timesteps";
}

TEST_F(TargetsTest, ARecordFollowsFromEpochAndSampleAlone) {
  const TrajectoryBatch once = Sample(2, 0), again = Sample(2, 0);
  EXPECT_TRUE(once.latents.equal(again.latents));
  EXPECT_TRUE(once.timesteps_BK.equal(again.timesteps_BK));
  EXPECT_FALSE(once.latents.equal(Sample(3, 0).latents));
}

TEST_F(TargetsTest, ImagesWithoutTargetsAreRefused) {
  job_.mutable_data()->clear_corrupt();
  Pipeline pipeline = LoadModel();
  const auto rollout = Rollout::Create(Judged(job_), &pipeline,
                                       *MakeJobReward(Judged(job_), at::kCPU), at::kCPU, {});
  ASSERT_FALSE(rollout.ok());
  EXPECT_EQ(rollout.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(rollout.status().message())
                .find("`train.objective: sft` needs target images: example '"),
            std::string::npos)
      << rollout.status();
}

}  // namespace
}  // namespace imageddpo

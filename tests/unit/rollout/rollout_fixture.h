#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "common/config/job_config.h"
#include "common/io/image_tensor.h"
#include "rollout/reward/make_reward.h"
#include "rollout/worker/rollout.h"
#include "tests/testing/judged.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {

inline constexpr char kModel[] = "deploy/demo/tiny-sd";

inline Pipeline LoadModel() {
  at::set_num_threads(1);
  absl::StatusOr<Pipeline> pipeline = Pipeline::Load(kModel, {});
  EXPECT_TRUE(pipeline.ok()) << pipeline.status();
  return *std::move(pipeline);
}

/// The result with its scores.
template <typename Result>
absl::StatusOr<Result> Scored(absl::StatusOr<WhenScored<Result>> sampled) {
  if (!sampled.ok()) return sampled.status();
  return (*std::move(sampled))();
}

/// A job with a data set of 6 images, and 4 held-out ones.
class RolloutFixture : public testing::Test {
 protected:
  RolloutFixture() {
    at::manual_seed(1);
    const int64_t side = 32;
    for (int i = 0; i < 10; ++i) {
      const auto png = EncodePng(TensorToImage(at::rand({3, side, side})));
      EXPECT_TRUE(png.ok());
      dir_.Write(std::string(i < 6 ? "data/" : "held-out/") + std::to_string(i) + ".png", *png);
    }
    job_ = *ParseJobYaml("model: {path: " + std::string(kModel) +
                             "}\ndata: {path: " + (dir_ / "data") +
                             ", prompt: a shoe}\neval: {path: " + (dir_ / "held-out") +
                             ", batch_size: 2}\n"
                             "rewards: [{type: jpeg, measure: compressibility}]\n"
                             "sample: {num_steps: 4, noise_strength: 0.5, batch_size: 3, "
                             "num_batches_per_epoch: 2, guidance_scale: 3}\n"
                             "train: {batch_size: 6}\ndevice: {device_batch_size: 3}",
                         "job.yaml");
    job_ = Judged(job_).spec();
  }

  std::unique_ptr<Rollout> Make(Pipeline* pipeline, RolloutShare share = {}) {
    return Make(pipeline, *MakeJobReward(Judged(job_), at::kCPU), share);
  }
  std::unique_ptr<Rollout> Make(Pipeline* pipeline, std::unique_ptr<Reward> reward,
                                RolloutShare share = {},
                                std::chrono::milliseconds reward_timeout = kRewardTimeout) {
    auto rollout =
        Rollout::Create(Judged(job_), pipeline, std::move(reward), at::kCPU, share, reward_timeout);
    EXPECT_TRUE(rollout.ok()) << rollout.status();
    return *std::move(rollout);
  }

  TempDir dir_;
  v1::JobSpec job_;
};

}  // namespace imageddpo

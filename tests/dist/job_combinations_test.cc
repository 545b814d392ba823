// Six combinations of learning options, drawn at random from fixed seeds: each has the same bits on
// every topology and over a resume in its middle.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/config/job_config.h"
#include "tests/dist/job_topologies.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

constexpr size_t kCombinations = 6;

/// What a job can choose, as pieces of job files; a combination has one piece of each list.
const std::vector<std::vector<std::string>>& Choices() {
  static const auto* const choices = new std::vector<std::vector<std::string>>{
      {"advantage: {mode: global}", "advantage: {mode: per_key, buffer_size: 4, min_count: 2}",
       "sample: {group_size: 2}\n"
       "advantage: {mode: per_key, stat_key: pair, buffer_size: 4, min_count: 2}",
       "sample: {group_size: 2, same_init_noise: true}\n"
       "advantage: {mode: group, zero_std: drop}",
       "sample: {group_size: 4}\n"
       "advantage: {mode: group, std_of: global, leave_one_out: true}",
       "sample: {group_size: 3, same_init_noise: true}\n"
       "advantage: {mode: group, std_of: none, leave_one_out: true, zero_std: drop}"},
      {"rewards: [{type: jpeg, measure: incompressibility}]",
       "rewards:\n"
       "- {type: jpeg, measure: compressibility, normalize: true}\n"
       "- {type: l1, weight: -2, warmup_epochs: 2}",
       "rewards:\n"
       "- {type: jpeg, measure: incompressibility}\n"
       "- {type: kl_to_base, weight: -0.001}",
       "rewards:\n"
       "- {type: jpeg, measure: incompressibility}\n"
       "- {type: image_stat, measure: saturation, scale: 10, clamp: 4}\n"
       "- {type: ssim, held_out: true}\n"
       "advantage: {combine: per_reward}"},
      {"train: {trust_region: ratio}", "train: {clip_range_low: 0.0005, clip_range_high: 0.01}",
       "train: {trust_region: kl, kl_limit: 0.0001}"},
      {"train: {kl_coef: 0}", "train: {kl_coef: 0.001}"},
      {"train: {ema_decay: 0}", "train: {ema_decay: 0.9, ema_warmup_updates: 2}",
       "train: {ema_decay: 0.5}\neval: {use_ema: true}"},
      {"train: {step_fraction: 1}", "train: {step_fraction: 0.5}",
       "train: {step_window: {size: 2, start: 1, stride: 1}}",
       "train: {step_window: {size: 3}, step_fraction: 0.7}",
       "sample: {sde_window: {size: 2, stride: 1, every_epochs: 2}}"},
      {"sample: {max_staleness: 0}", "sample: {max_staleness: 1}", "sample: {max_staleness: 2}"},
      {"train: {optimizer: adamw}", "train: {optimizer: adamw8bit, min_8bit_size: 0}"},
      {"train: {lr_schedule: constant, max_grad_zscore: 3}",
       "train: {lr_schedule: cosine, lr_warmup_updates: 3, lr_min_ratio: 0.1}"},
      {"train: {weight_decay_to: zero}",
       "train: {adam_weight_decay: 0.5, weight_decay_to: initial}"},
      {"train: {batch_size: 6, num_inner_epochs: 2}",
       "train: {batch_size: 6, gradient_accumulation_steps: 2}",
       "train: {batch_size: 12, gradient_shards: 4}"},
      {"sample: {guidance_scale: 1}",
       "sample: {guidance_scale: 3, guidance_rescale: 0.5}\ndata: {prompt: a coat}"},
      {"sample: {eta: 1}", "sample: {eta: 0.7}"},
      {"data: {on_error: fail}", "data: {corrupt: {kind: gaussian_noise, severity: 3}}"},
      {"device: {gradient_checkpointing: false}", "device: {gradient_checkpointing: true}"},
      {"lora: {rank: 4}", "lora: {rank: 2, alpha: 8, target_modules: [to_q, to_v, proj_in]}"},
  };
  return *choices;
}

class RandomCombination : public JobTopologies, public testing::WithParamInterface<size_t> {
 protected:
  /// What all combinations share: 3 executed steps, 6 micro-batches, no guard that speaks up.
  static v1::JobSpec Base() {
    v1::JobSpec job = *ParseJobYaml(
        "eval: {every_epochs: 2, batch_size: 1, num_pictures: 0}\n"
        "sample: {num_steps: 6, noise_strength: 0.5, batch_size: 12, num_batches_per_epoch: 1}\n"
        "train: {learning_rate: 0.01, clip_range: 0.001}\n"
        "checkpoint: {every_epochs: 2}\n"
        "device: {device_batch_size: 2, num_threads: 1}\n"
        "guards:\n"
        "  approx_kl: {policy: \"off\"}\n"
        "  gradient_spike: {policy: \"off\"}\n"
        "  held_out: {policy: \"off\"}\n"
        "  image_statistics: {policy: \"off\"}\n"
        "  reward_collapse: {policy: \"off\"}\n"
        "  zero_spread: {policy: \"off\"}\n",
        "job.yaml");
    SetModelAndData(&job);
    return job;
  }

  /// Deals the pieces of each list to the combinations like cards, so that every piece is in one of
  /// them at least. Options that exclude each other: all are dealt again.
  static std::vector<v1::JobSpec> Deal() {
    std::vector<std::vector<v1::JobSpec>> pieces;
    for (const std::vector<std::string>& list : Choices()) {
      pieces.emplace_back();
      for (const std::string& yaml : list) {
        pieces.back().push_back(*ParseJobYaml(yaml, "piece.yaml"));
      }
    }
    std::mt19937 random(17);
    for (int attempt = 0; attempt < 10'000; ++attempt) {
      std::vector<v1::JobSpec> jobs(kCombinations, Base());
      for (const std::vector<v1::JobSpec>& list : pieces) {
        std::vector<size_t> cards;
        for (size_t i = 0; i < kCombinations; ++i) cards.push_back(i % list.size());
        for (size_t i = kCombinations - 1; i > 0; --i)
          std::swap(cards[i], cards[random() % (i + 1)]);
        for (size_t i = 0; i < kCombinations; ++i) jobs[i].MergeFrom(list[cards[i]]);
      }
      for (size_t i = 0; i < kCombinations; ++i) jobs[i].set_seed(100 + i);
      const auto is_possible = [](const v1::JobSpec& job) {
        return ResolvedJob::Make(Runnable(job)).ok();
      };
      if (std::all_of(jobs.begin(), jobs.end(), is_possible)) return jobs;
    }
    return {};
  }
};

TEST_P(RandomCombination, HasTheSameBitsOnEveryTopologyAndAfterAResume) {
  const std::vector<v1::JobSpec> dealt = Deal();
  ASSERT_EQ(dealt.size(), kCombinations) << "no deal without options that exclude each other";
  const v1::JobSpec job = Judged(dealt[GetParam()]).spec();
  SCOPED_TRACE(JobToYaml(job));
  const JobOutcome alone = RunOnThreads(job, Colocated(1));
  ASSERT_EQ(alone.checkpoints.size(), static_cast<size_t>(kEpochs));
  ASSERT_GT(alone.rows.size(), 0U);
  ASSERT_EQ(alone.rows.size() % kEpochs, 0U);
  EXPECT_NE(alone.checkpoints.at(1).lora(), alone.checkpoints.at(kEpochs).lora()) << "it learns";
  EXPECT_NE(alone.evaluations.at(0), alone.evaluations.at(kEpochs)) << "and is evaluated";
  for (const Topology& topology : {Colocated(3), Split(1, 1), Split(3, 2)}) {
    ExpectSame(RunOnThreads(job, topology), alone, topology);
  }
  ExpectSameAfterAResume(job, alone, kEpochs / 2, Split(2, 1));
}

INSTANTIATE_TEST_SUITE_P(Jobs, RandomCombination, testing::Range(size_t{0}, kCombinations));

}  // namespace
}  // namespace imageddpo

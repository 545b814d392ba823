#include "common/config/job_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/resolve_steps.h"
#include "common/config/topology.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::JobSpec Job(int64_t sample, int64_t batches, int64_t train, int64_t accumulation,
                int64_t device = 0, int64_t shards = 0) {
  v1::JobSpec job;
  job.mutable_sample()->set_batch_size(sample);
  job.mutable_sample()->set_num_batches_per_epoch(batches);
  job.mutable_train()->set_batch_size(train);
  job.mutable_train()->set_gradient_accumulation_steps(accumulation);
  job.mutable_device()->set_device_batch_size(device);
  job.mutable_train()->set_gradient_shards(shards);
  return job;
}

TEST(MakeJobPlan, CountsTheDemo) {
  const JobPlan plan = *MakeJobPlan(Job(128, 1, 32, 1));
  EXPECT_EQ(plan.samples_per_epoch, 128);
  EXPECT_EQ(plan.samples_per_update, 32);
  EXPECT_EQ(plan.device_batch_size, 32);
  EXPECT_EQ(plan.micro_batches_per_epoch, 4);
  EXPECT_EQ(plan.micro_batches_per_update, 1);
  EXPECT_EQ(plan.updates_per_inner_epoch, 4);
  EXPECT_EQ(plan.gradient_shards, 1);
  EXPECT_EQ(plan.FirstSample(3), 96);
}

TEST(MakeJobPlan, ShardsAreTheMicroBatchesButAtMostSixtyFour) {
  EXPECT_EQ(MakeJobPlan(Job(32, 1, 32, 1, 8))->gradient_shards, 4);
  EXPECT_EQ(MakeJobPlan(Job(32, 1, 32, 1, 1))->gradient_shards, 32);
  EXPECT_EQ(MakeJobPlan(Job(128, 1, 128, 1, 1))->gradient_shards, 64);
  EXPECT_EQ(MakeJobPlan(Job(32, 1, 32, 1, 1, 32))->gradient_shards, 32);
  EXPECT_EQ(MakeJobPlan(Job(32, 1, 32, 1, 1, 3))->gradient_shards, 3);
}

// Every position belongs to exactly the shard whose range holds it; no shard is empty.
TEST(MakeJobPlan, ShardsPartitionAnUpdate) {
  for (int64_t micro_batches = 1; micro_batches <= 40; ++micro_batches) {
    for (int64_t shards = 1; shards <= micro_batches; ++shards) {
      const JobPlan plan = *MakeJobPlan(Job(micro_batches, 1, micro_batches, 1, 1, shards));
      int64_t next = 0;
      for (int64_t shard = 0; shard < shards; ++shard) {
        const auto [begin, end] = plan.ShardRange(shard);
        EXPECT_EQ(begin, next);
        EXPECT_LT(begin, end);
        for (int64_t position = begin; position < end; ++position) {
          ASSERT_EQ(plan.ShardOf(position), shard) << micro_batches << " " << shards;
        }
        next = end;
      }
      EXPECT_EQ(next, micro_batches);
    }
  }
}

TEST(MakeJobPlan, NamesBothSettingsAndValuesThatDo) {
  const absl::Status epoch = MakeJobPlan(Job(6, 1, 4, 1)).status();
  EXPECT_EQ(epoch.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(epoch.message()),
            "the samples of an epoch (`sample.batch_size` 6 × `sample.num_batches_per_epoch` 1 = "
            "6) must be a "
            "multiple of the samples of an update (`train.batch_size` 4 × "
            "`train.gradient_accumulation_steps` 1 "
            "= 4); set `sample.num_batches_per_epoch: 2` or `train.batch_size: 3`");
  EXPECT_THAT(std::string(MakeJobPlan(Job(8, 1, 8, 1, 3)).status().message()),
              HasSubstr("must be a multiple of `device.device_batch_size` 3; set it to 2"));
}

TEST(MakeJobPlan, AnEpochIsWholeGroups) {
  EXPECT_EQ(MakeJobPlan(Job(6, 2, 4, 1))->group_size, 1);
  v1::JobSpec job = Job(6, 2, 4, 1);
  job.mutable_sample()->set_group_size(3);
  const JobPlan plan = *MakeJobPlan(job);
  EXPECT_EQ(plan.device_batch_size, 2) << "no multiple of the group";
  EXPECT_EQ(plan.GroupOf(2), 0);
  EXPECT_EQ(plan.GroupOf(3), 1);
  job.mutable_sample()->set_group_size(8);
  EXPECT_EQ(std::string(MakeJobPlan(job).status().message()),
            "the samples of an epoch (`sample.batch_size` 6 × `sample.num_batches_per_epoch` 2 = "
            "12) must be a multiple of `sample.group_size` 8; set it to 6, or "
            "`sample.num_batches_per_epoch: 4`");
  job.mutable_sample()->set_num_batches_per_epoch(4);
  EXPECT_TRUE(MakeJobPlan(job).ok());
  job.mutable_sample()->set_group_size(0);
  EXPECT_THAT(std::string(MakeJobPlan(job).status().message()),
              HasSubstr("`sample.group_size` is 0"));
}

// Following the advice of an error message makes the job valid, whatever the numbers.
TEST(MakeJobPlan, TheAdviceWorks) {
  for (int64_t sample = 1; sample <= 12; ++sample) {
    for (int64_t batches = 1; batches <= 3; ++batches) {
      for (int64_t train = 1; train <= 13; ++train) {
        for (int64_t accumulation = 1; accumulation <= 3; ++accumulation) {
          const absl::Status status =
              MakeJobPlan(Job(sample, batches, train, accumulation)).status();
          if (status.ok()) continue;
          const std::string message(status.message());
          const auto number_after = [&](const std::string& text) {
            const size_t at = message.find(text);
            return at == std::string::npos ? 0 : std::stoll(message.substr(at + text.size()));
          };
          const int64_t more = number_after("set `sample.num_batches_per_epoch: ");
          EXPECT_TRUE(MakeJobPlan(Job(sample, more, train, accumulation)).ok()) << message;
          const int64_t smaller = number_after("or `train.batch_size: ");
          if (smaller != 0) {
            EXPECT_TRUE(MakeJobPlan(Job(sample, batches, smaller, accumulation)).ok()) << message;
          }
        }
      }
    }
  }
}

TEST(MakeJobPlan, RefusesWhatWouldOverflow) {
  EXPECT_FALSE(MakeJobPlan(Job(int64_t{1} << 40, int64_t{1} << 40, 1, 1)).ok());
  EXPECT_FALSE(MakeJobPlan(Job(0, 1, 1, 1)).ok());
  EXPECT_FALSE(MakeJobPlan(Job(1, 1, -1, 1)).ok());
  EXPECT_FALSE(MakeJobPlan(v1::JobSpec()).ok());
}

ResolvedJob AskingFor(int64_t rollout, int64_t trainer) {
  v1::JobSpec job = Job(16, 1, 16, 1, 4);
  if (rollout > 0) job.mutable_topology()->set_rollout(rollout);
  if (trainer > 0) job.mutable_topology()->set_trainer(trainer);
  return Judged(job);
}

TEST(NamedTopology, TakesWhatIsAskedForOrSaysThatItDoesNotFit) {
  EXPECT_EQ(NamedTopology(AskingFor(2, 2), 4)->ToString(), "rollout 2, trainer 2");
  const absl::Status status = NamedTopology(AskingFor(2, 2), 3).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("asks for 4 workers (rollout 2, trainer 2), but the pool has 3"));
  v1::JobSpec colocated = Job(16, 1, 16, 1, 4);
  colocated.mutable_topology()->set_colocated(3);
  EXPECT_EQ(NamedTopology(Judged(colocated), 3)->ranks(), 3);
  EXPECT_EQ(NamedTopology(Judged(colocated), 2).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(NamedTopology(Judged(colocated), 0).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(NamedTopology, ShrinksToTheLeastThatTheJobAllows) {
  v1::JobSpec job = Job(64, 1, 64, 1, 1);
  const auto fit = [&](int pool_size) {
    const auto topology = NamedTopology(Judged(job), pool_size);
    return topology.ok() ? topology->ToString() : std::string(topology.status().message());
  };
  job.mutable_topology()->set_rollout(6);
  job.mutable_topology()->set_trainer(2);
  EXPECT_THAT(fit(7), HasSubstr("asks for 8 workers (rollout 6, trainer 2), but"));
  job.mutable_topology()->set_min_rollout(1);
  EXPECT_EQ(fit(9), "rollout 6, trainer 2");
  EXPECT_EQ(fit(7), "rollout 5, trainer 2");
  EXPECT_EQ(fit(3), "rollout 1, trainer 2");
  EXPECT_THAT(fit(2), HasSubstr("asks for 8 workers (rollout 6, trainer 2), at least 3, but"));
  job.mutable_topology()->set_min_trainer(1);
  EXPECT_EQ(fit(7), "rollout 5, trainer 2");
  EXPECT_EQ(fit(5), "rollout 4, trainer 1");
  EXPECT_EQ(fit(2), "rollout 1, trainer 1");
  EXPECT_THAT(fit(1), HasSubstr("at least 2, but the pool has 1"));
  job.mutable_topology()->set_min_rollout(6);
  EXPECT_EQ(fit(7), "rollout 6, trainer 1");
  EXPECT_THAT(fit(6), HasSubstr("at least 7"));

  job.clear_topology();
  job.mutable_topology()->set_colocated(4);
  job.mutable_topology()->set_min_colocated(2);
  EXPECT_EQ(fit(5), "colocated 4");
  EXPECT_EQ(fit(3), "colocated 3");
  EXPECT_THAT(fit(1), HasSubstr("at least 2"));
}

TEST(MakeGangLayout, RolloutRanksFirst) {
  const v1::GangLayout split = MakeGangLayout({2, 1, false}, {5, 1, 7}, "g1");
  EXPECT_THAT(split.world_ranks(), ElementsAre(5, 1, 7));
  EXPECT_THAT(split.rollout(), ElementsAre(0, 1));
  EXPECT_THAT(split.trainer(), ElementsAre(2));
  EXPECT_EQ(split.tag(), "g1");
  const v1::GangLayout colocated = MakeGangLayout({2, 2, true}, {3, 4}, "g2");
  EXPECT_THAT(colocated.rollout(), ElementsAre(0, 1));
  EXPECT_THAT(colocated.trainer(), ElementsAre(0, 1));
}

std::string ResolvedUpdate(v1::JobSpec job, const std::string& update = "auto") {
  job.mutable_train()->set_update(update);
  const ResolvedJob judged = Judged(job);
  EXPECT_EQ(judged.plan().single_pass, judged.spec().train().update() == "single_pass");
  return judged.spec().train().update();
}

// The update follows from the job alone: it is the same in a pool of one and in a pool of three.
TEST(ChooseUpdate, TakesASinglePassWhereTheJobIsColocatedAndItIsExact) {
  v1::JobSpec job = Job(32, 1, 32, 1, 8);
  EXPECT_EQ(ResolvedUpdate(job), "replay");
  job.mutable_topology()->set_colocated(2);
  EXPECT_EQ(ResolvedUpdate(job), "single_pass");
  EXPECT_EQ(ResolvedUpdate(job, "replay"), "replay");
  job.mutable_train()->set_batch_size(16);
  EXPECT_EQ(ResolvedUpdate(job), "replay");  // Two updates.
  job.mutable_train()->set_gradient_accumulation_steps(2);
  EXPECT_EQ(ResolvedUpdate(job), "single_pass");
  job.mutable_train()->set_num_inner_epochs(2);
  EXPECT_EQ(ResolvedUpdate(job), "replay");
}

}  // namespace
}  // namespace imageddpo

// What differs between two jobs, and which of it a checkpoint allows.

#include "common/config/compare/branch_rules.h"
#include "common/config/compare/job_difference.h"
#include "common/config/resolved_job.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> Lines(const v1::JobSpec& before, const v1::JobSpec& after) {
  std::vector<std::string> lines;
  for (const SettingDifference& found : DifferentSettings(before, after)) {
    lines.push_back(found.setting + ": " + found.before + " -> " + found.after);
  }
  return lines;
}

TEST(DifferentSettings, AreNamedAsSetNamesThem) {
  const v1::JobSpec before = Judged({}).spec();
  EXPECT_THAT(DifferentSettings(before, before), IsEmpty());
  v1::JobSpec after = before;
  after.mutable_train()->set_learning_rate(0.125);
  after.set_name("other");
  after.mutable_rewards(0)->set_weight(2);
  after.mutable_lora()->clear_target_modules();
  after.mutable_lora()->add_target_modules("to_q");
  after.mutable_lora()->add_target_modules("to_v");
  EXPECT_THAT(Lines(before, after),
              ElementsAre("name: \"job\" -> \"other\"", HasSubstr("-> [\"to_q\", \"to_v\"]"),
                          "rewards.0.weight: 1 -> 2", HasSubstr("train.learning_rate: ")));
}

TEST(DifferentSettings, OfRewardsThatOneJobLacks) {
  v1::JobSpec before, after;
  after.add_rewards()->set_type("jpeg");
  EXPECT_THAT(Lines(before, after), ElementsAre("rewards.0.type:  -> \"jpeg\""));
  EXPECT_THAT(Lines(after, before), ElementsAre("rewards.0.type: \"jpeg\" -> "));
}

std::string BranchFaults(const v1::JobSpec& parent, const v1::JobSpec& branch, int64_t epoch = 2) {
  const absl::Status status = CheckBranch(parent, branch, epoch);
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(CheckBranch, WhatACheckpointHoldsCannotChange) {
  const v1::JobSpec parent = Judged({}).spec();
  EXPECT_EQ(BranchFaults(parent, parent), "");
  v1::JobSpec branch = parent;
  branch.mutable_lora()->set_rank(99);
  branch.mutable_model()->set_path("another");
  branch.mutable_train()->set_optimizer("adamw8bit");
  branch.mutable_sample()->set_max_staleness(3);
  branch.mutable_train()->set_learning_rate(0.5);
  branch.mutable_data()->set_prompt("another");
  const std::string faults = BranchFaults(parent, branch);
  for (const char* name :
       {"`lora.rank`", "`model.path`", "`train.optimizer`", "`sample.max_staleness`"}) {
    EXPECT_THAT(faults, HasSubstr(std::string(name) + " cannot change with a checkpoint, from "));
  }
  EXPECT_THAT(faults, Not(HasSubstr("learning_rate")));
  EXPECT_THAT(faults, Not(HasSubstr("data.prompt")));
}

TEST(CheckBranch, StatisticsOfKeysStayAsTheyAre) {
  v1::JobSpec parent = Judged({}).spec();
  v1::JobSpec branch = parent;
  parent.mutable_advantage()->set_mode("global");
  branch.mutable_advantage()->set_mode("group");
  branch.mutable_advantage()->set_buffer_size(5);
  EXPECT_EQ(BranchFaults(parent, branch), "") << "neither has any";
  branch.mutable_advantage()->set_mode("per_key");
  EXPECT_THAT(BranchFaults(parent, branch), HasSubstr("`advantage.mode` cannot change"));
  parent.mutable_advantage()->set_mode("per_key");
  EXPECT_THAT(BranchFaults(parent, branch), HasSubstr("`advantage.buffer_size` cannot change"));
}

TEST(CheckBranch, PrecisionRewardsAndEpochs) {
  v1::JobSpec parent = Judged({}).spec();
  parent.set_num_epochs(10);
  v1::JobSpec branch = parent;
  branch.mutable_model()->set_precision("bf16");
  EXPECT_EQ(BranchFaults(parent, branch), "");
  branch.mutable_model()->set_precision("fp16");
  EXPECT_THAT(BranchFaults(parent, branch), HasSubstr("`model.precision` cannot change"));
  branch = parent;
  branch.mutable_rewards(0)->set_normalize(true);
  EXPECT_THAT(BranchFaults(parent, branch), HasSubstr("`rewards.0.normalize` cannot be true"));
  EXPECT_EQ(BranchFaults(branch, branch), "");
  v1::JobSpec twice = branch;  // Of one type and without names, as metrics tell them apart.
  *twice.add_rewards() = branch.rewards(0);
  EXPECT_THAT(BranchFaults(branch, twice), HasSubstr("`rewards.1.normalize` cannot be true"));
  EXPECT_EQ(BranchFaults(parent, parent, 9), "");
  EXPECT_THAT(BranchFaults(parent, parent, 10),
              HasSubstr("`num_epochs` is 10, and the checkpoint has 10 epochs already"));
}

}  // namespace
}  // namespace imageddpo

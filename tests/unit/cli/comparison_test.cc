#include "deploy/imageddpo/text/comparison.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

/// A job with a reward for each epoch and an evaluation after them.
ComparedJob JobOf(const std::string& id, double rate, uint64_t seed,
                  const std::vector<double>& rewards) {
  ComparedJob made;
  made.job.set_id(id);
  made.job.mutable_spec()->set_name(id);
  made.job.mutable_spec()->set_seed(seed);
  made.job.mutable_spec()->mutable_train()->set_learning_rate(rate);
  made.job.mutable_progress()->set_epoch(static_cast<int64_t>(rewards.size()));
  for (size_t i = 0; i < rewards.size(); ++i) {
    v1::JobEvent& event = made.events.emplace_back();
    event.mutable_epoch()->set_epoch(static_cast<int64_t>(i));
    event.mutable_epoch()->set_reward_mean(rewards[i]);
  }
  v1::JobEvent& event = made.events.emplace_back();
  event.mutable_eval()->set_epoch(static_cast<int64_t>(rewards.size()));
  event.mutable_eval()->set_reward_mean(rewards.back() / 2);
  event.mutable_eval()->set_reward_stderr(0.25);
  (*event.mutable_eval()->mutable_parts_mean())["jpeg.kb"] = 3;
  return made;
}

std::vector<ComparedGroup> Groups() {
  return CompareJobs({JobOf("job-1", 1e-4, 1, {0, 9, 4}), JobOf("job-2", 1e-4, 2, {0, 9, 6}),
                      JobOf("job-3", 3e-4, 1, {0, 1})});
}

TEST(Comparison, SeedsOfTheSameSettingsAreOneGroup) {
  const std::vector<ComparedGroup> groups = Groups();
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_THAT(groups[0].job_ids, ElementsAre("job-1", "job-2"));
  EXPECT_THAT(groups[0].settings, ElementsAre(Pair("train.learning_rate", "0.0001")));
  EXPECT_THAT(groups[1].settings, ElementsAre(Pair("train.learning_rate", "0.0003")));
  EXPECT_EQ(groups[1].min_epochs, 2);
}

TEST(Comparison, MeansHaveTheStandardErrorOverSeeds) {
  const std::vector<ComparedGroup> groups = Groups();
  // Means of the epochs, of which there are fewer than 10: 13/3 and 5.
  EXPECT_NEAR(groups[0].final_reward.mean, (13.0 / 3 + 5) / 2, 1e-9);
  EXPECT_NEAR(groups[0].final_reward.standard_error, (5 - 13.0 / 3) / 2, 1e-9);
  EXPECT_EQ(groups[0].best_reward.mean, 9);
  EXPECT_EQ(groups[0].evaluation.at("reward").mean, 2.5);
  EXPECT_EQ(groups[0].evaluation.at("reward").standard_error, 0.5) << "over seeds: 2 and 3";
  EXPECT_EQ(groups[1].evaluation.at("reward").standard_error, 0.25) << "one job: its own";
  EXPECT_EQ(groups[1].evaluation.at("jpeg.kb").mean, 3);
}

TEST(Comparison, IsShownInFourForms) {
  const std::string table = ComparisonTable(Groups());
  EXPECT_THAT(table, HasSubstr("train.learning_rate"));
  EXPECT_THAT(table, HasSubstr("job-1 job-2"));
  EXPECT_THAT(table, HasSubstr("2.5 ± 0.5"));
  const std::string markdown = ComparisonMarkdown(Groups());
  EXPECT_THAT(markdown, testing::StartsWith("| train.learning_rate | JOBS | EPOCHS |"));
  EXPECT_THAT(markdown, HasSubstr("\n| --- | --- |"));
  const auto json = nlohmann::json::parse(ComparisonJson(Groups()));
  EXPECT_EQ(json["groups"][0]["best_reward"]["num_jobs"], 2);
  EXPECT_EQ(json["groups"][1]["jobs"][0], "job-3");
  const std::string yaml = ComparisonYaml(Groups());
  EXPECT_THAT(yaml, testing::StartsWith("\"groups\":\n"));
  EXPECT_THAT(yaml, HasSubstr("\"num_jobs\": 2\n"));
}

TEST(Comparison, JobsWithoutNumbersAreShownToo) {
  ComparedJob job;
  job.job.set_id("job-9");
  const std::string table = ComparisonTable(CompareJobs({job}));
  EXPECT_THAT(table, HasSubstr("job-9"));
}

}  // namespace
}  // namespace imageddpo

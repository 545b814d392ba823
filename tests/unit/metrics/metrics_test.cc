#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "common/metrics/epoch_metrics.h"
#include "common/metrics/job_metrics.h"

namespace imageddpo {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const prometheus::Registry& registry) {
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

v1::EpochMetrics Metrics(int64_t epoch) {
  v1::EpochMetrics values;
  values.set_epoch(epoch);
  values.set_samples_seen((epoch + 1) * 128);
  values.set_reward_mean(1.5);
  values.set_reward_std(0.75);
  values.set_loss(-0.25);
  values.set_approx_kl(0.125);
  values.set_clipfrac(0.5);
  values.set_grad_norm(2);
  values.set_ratio_first_step_max_error(0);
  values.set_epoch_seconds(4);
  values.set_images_per_second(32);
  values.set_mfu(0.5);
  (*values.mutable_stage_seconds())["sample"] = 1.5;
  (*values.mutable_stage_seconds())["train"] = 2.5;
  return values;
}

constexpr char kLabels[] = R"({job_id="job-000001",job_name="deblur"})";

std::string Line(const std::string& name, const std::string& value) {
  return "\n" + name + kLabels + " " + value + "\n";
}

/// Every field has a number of its own.
v1::EpochMetrics Numbered(double first) {
  v1::EpochMetrics numbered;
  const auto* reflection = numbered.GetReflection();
  for (const EpochMetric& metric : EpochMetricTable()) {
    const auto* field = numbered.GetDescriptor()->FindFieldByName(std::string(metric.field));
    if (field->is_map()) continue;
    if (field->cpp_type() == field->CPPTYPE_INT64) {
      reflection->SetInt64(&numbered, field, static_cast<int64_t>(first) + field->number());
    } else if (field->cpp_type() == field->CPPTYPE_BOOL) {
      reflection->SetBool(&numbered, field, true);
    } else {
      reflection->SetDouble(&numbered, field, first + field->number());
    }
  }
  numbered.mutable_parts_mean()->insert({{"jpeg.value", first}, {"classifier.value", first + 1}});
  return numbered;
}

TEST(EpochMetrics, TheTableHasEveryFieldOnce) {
  std::set<std::string> fields;
  for (const EpochMetric& metric : EpochMetricTable()) {
    EXPECT_TRUE(fields.insert(std::string(metric.field)).second) << metric.field;
  }
  const auto* descriptor = v1::EpochMetrics::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    EXPECT_EQ(fields.erase(descriptor->field(i)->name()), 1U) << descriptor->field(i)->name();
  }
  EXPECT_TRUE(fields.empty()) << *fields.begin();
}

TEST(EpochMetrics, ARowHasTheNumbersOfAnUpdateInTheTablesOrder) {
  EXPECT_EQ(RowOf(Numbered(0)).dump(),
            R"({"epoch":1,"inner_epoch":12,"update":13,"samples_seen":2,"reward_mean":3.0,)"
            R"("reward_std":4.0,"reward_min":114.0,"reward_p10":115.0,"reward_median":116.0,)"
            R"("reward_p90":117.0,"reward_max":118.0,"advantage_std":119.0,)"
            R"("advantage_max":120.0,"left_out_fraction":121.0,)"
            R"("zero_std_ratio":80.0,"loss":5.0,"sft_loss":94.0,"approx_kl":6.0,"clipfrac":7.0,)"
            R"("clip_fraction_high":81.0,"clip_fraction_low":82.0,"kl_step_mean":90.0,)"
            R"("kl_step_max":91.0,"masked_fraction":92.0,"kl_to_base":93.0,)"
            R"("grad_norm":9.0,"update_norm":122.0,"ema_distance":123.0,"learning_rate":83.0,)"
            R"("ratio_first_step_max_error":8.0,"parts_mean":{"classifier.value":1.0,)"
            R"("jpeg.value":0.0},"sample_age":14,"behaviour_ratio_mean":15.0,)"
            R"("behaviour_ratio_std":16.0,"proximal_ratio_mean":17.0,"proximal_ratio_std":18.0,)"
            R"("loss_scale":19.0,"skipped":true,"skipped_updates":21,"images_skipped":40})");
  EXPECT_EQ(RowOf(v1::EpochMetrics()).dump(),
            R"({"epoch":0,"samples_seen":0,"reward_mean":0.0,"reward_std":0.0,"loss":0.0,)"
            R"("approx_kl":0.0,"clipfrac":0.0,"grad_norm":0.0,"ratio_first_step_max_error":0.0,)"
            R"("parts_mean":{}})");
}

TEST(EpochMetrics, AnEpochsNumbersComeFromThoseOfItsUpdates) {
  const v1::EpochMetrics epoch = OfUpdates({Numbered(0), Numbered(100)});
  EXPECT_EQ(epoch.epoch(), 1);
  EXPECT_EQ(epoch.samples_seen(), 102) << "The last one's.";
  EXPECT_EQ(epoch.reward_mean(), 3) << "The first one's.";
  EXPECT_EQ(epoch.loss(), 55) << "The mean.";
  EXPECT_EQ(epoch.kl_step_mean(), 140);
  EXPECT_EQ(epoch.kl_step_max(), 191) << "The largest.";
  EXPECT_EQ(OfUpdates({Numbered(100), Numbered(0)}).kl_step_max(), 191);
  EXPECT_FALSE(OfUpdates({v1::EpochMetrics()}).has_kl_step_max());
  EXPECT_EQ(epoch.ratio_first_step_max_error(), 8);
  EXPECT_EQ(epoch.parts_mean().at("classifier.value"), 1);
  EXPECT_EQ(epoch.sample_age(), 14);
  EXPECT_EQ(epoch.proximal_ratio_std(), 68);
  EXPECT_EQ(epoch.loss_scale(), 119);
  EXPECT_EQ(epoch.skipped_updates(), 121);
  EXPECT_FALSE(epoch.has_update() || epoch.has_inner_epoch() || epoch.has_skipped());
  EXPECT_FALSE(epoch.has_images_per_second()) << "Not of updates.";
  EXPECT_FALSE(OfUpdates({v1::EpochMetrics()}).has_sample_age()) << "What is not there stays so.";
}

TEST(EpochMetrics, ALineTellsAPersonHowItWent) {
  EXPECT_EQ(EpochLine(Metrics(11), 80),
            "epoch 12 of 80: reward 1.5 (spread 0.75), loss -0.25, KL 0.125, 50% clipped, "
            "32 images/s, 4 s (sample 1.5, train 2.5)");
}

TEST(JobMetrics, ShowAnEpoch) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  metrics.Started("rollout 1, trainer 1", 80, 1e9);
  metrics.EpochFinished(Metrics(11), 128, 1e9);
  const std::string text = Text(registry);
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_reward_mean", "1.5")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_reward_std", "0.75")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_loss", "-0.25")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_approx_kl", "0.125")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_clip_fraction", "0.5")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_grad_norm", "2")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_ratio_first_step_max_error", "0")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_images_per_second", "32")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_epoch", "12")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_num_epochs", "80")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_samples_seen", "1536")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_samples_total", "128")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_epochs_total", "1")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_epoch_seconds", "4")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_mfu", "0.5")));
  EXPECT_THAT(text, HasSubstr("imageddpo_job_epoch_stage_seconds{job_id=\"job-000001\",job_name="
                              "\"deblur\",stage=\"train\"} 2.5"));
  EXPECT_THAT(text, HasSubstr("stage=\"sample\"} 1.5"));
  EXPECT_THAT(text, HasSubstr("topology=\"rollout 1, trainer 1\"} 1"));
}

TEST(JobMetrics, ShowEveryPartOfTheRewards) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  v1::EpochMetrics values = Metrics(0);
  (*values.mutable_parts_mean())["ssim.value"] = 0.25;
  (*values.mutable_parts_mean())["l1.dropped"] = 0.5;
  metrics.EpochFinished(values, 128, 1e9);
  for (const char* line : {"part=\"ssim.value\"} 0.25", "part=\"l1.dropped\"} 0.5"}) {
    EXPECT_THAT(Text(registry), HasSubstr(line));
  }
}

TEST(JobMetrics, ShowTheLossScaleWhereThereIsOne) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  v1::EpochMetrics values = Metrics(0);
  metrics.EpochFinished(values, 128, 1e9);
  EXPECT_THAT(Text(registry), Not(HasSubstr("imageddpo_job_loss_scale{")));
  values.set_loss_scale(32768);
  values.set_skipped_updates(1);
  metrics.EpochFinished(values, 128, 1e9);
  EXPECT_THAT(Text(registry), HasSubstr(Line("imageddpo_job_loss_scale", "32768")));
  EXPECT_THAT(Text(registry), HasSubstr(Line("imageddpo_job_skipped_updates", "1")));
}

TEST(JobMetrics, ShowHowOldSamplesAreWhereTheyMayBe) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  v1::EpochMetrics values = Metrics(1);
  metrics.EpochFinished(values, 128, 1e9);
  EXPECT_THAT(Text(registry), Not(HasSubstr("imageddpo_job_sample_age{")));
  values.set_sample_age(1);
  values.set_behaviour_ratio_mean(1.25);
  values.set_behaviour_ratio_std(0.5);
  values.set_proximal_ratio_mean(0.75);
  values.set_proximal_ratio_std(0.125);
  metrics.EpochFinished(values, 128, 1e9);
  const std::string text = Text(registry);
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_sample_age", "1")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_behaviour_ratio_mean", "1.25")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_behaviour_ratio_std", "0.5")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_proximal_ratio_mean", "0.75")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_proximal_ratio_std", "0.125")));
}

TEST(JobMetrics, CountersGrowAndGaugesFollow) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  for (int64_t epoch = 0; epoch < 3; ++epoch) metrics.EpochFinished(Metrics(epoch), 128, 1e9);
  metrics.CheckpointWritten(0, 100, 1000);
  metrics.CheckpointWritten(10, 300, 2000);
  metrics.Resumed();
  metrics.Warned();
  metrics.GuardFired("approx_kl");
  v1::EvalReport eval;
  eval.set_epoch(10);
  eval.set_reward_mean(0.5);
  (*eval.mutable_parts_mean())["classifier.correct"] = 0.75;
  metrics.Evaluated(eval);
  const std::string text = Text(registry);
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_samples_total", "384")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_epochs_total", "3")));
  EXPECT_THAT(text, HasSubstr("imageddpo_job_guard_firings_total{guard=\"approx_kl\","));
  EXPECT_THAT(text, HasSubstr("stage=\"train\"} 7.5"));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_checkpoints_total", "2")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_checkpoint_bytes", "300")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_checkpoint_epoch", "10")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_checkpoint_time_seconds", "2000")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_resumes_total", "1")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_warnings_total", "1")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_eval_reward_mean", "0.5")));
  EXPECT_THAT(text, HasSubstr(Line("imageddpo_job_eval_epoch", "10")));
  EXPECT_THAT(text, HasSubstr("part=\"classifier.correct\"} 0.75"));
}

TEST(JobMetrics, NothingIsMadeUpBeforeTheFirstValue) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  metrics.Started("colocated 1", 80, 1e9);
  EXPECT_THAT(Text(registry), Not(HasSubstr("imageddpo_job_reward_mean{")));
  EXPECT_THAT(Text(registry), Not(HasSubstr("imageddpo_job_eval_reward_mean{")));
  EXPECT_THAT(Text(registry), HasSubstr(Line("imageddpo_job_samples_total", "0")));
  // An evaluation alone is of no epoch: 0 of 0 would be no share.
  metrics.Evaluated(v1::EvalReport());
  EXPECT_THAT(Text(registry), Not(HasSubstr("imageddpo_job_epoch{")));
}

TEST(JobMetrics, AJobInAnotherShapeHasOneInfo) {
  prometheus::Registry registry;
  JobMetrics metrics(registry, "job-000001", "deblur");
  metrics.Started("rollout 2, trainer 1", 80, 1e9);
  metrics.Started("colocated 1", 80, 1e9);
  EXPECT_THAT(Text(registry), Not(HasSubstr("rollout 2")));
  EXPECT_THAT(Text(registry), HasSubstr("topology=\"colocated 1\"} 1"));
}

TEST(JobMetrics, LeaveNothingBehind) {
  prometheus::Registry registry;
  {
    JobMetrics one(registry, "job-000001", "deblur");
    JobMetrics two(registry, "job-000002", "other");
    one.Started("colocated 1", 80, 1e9);
    one.EpochFinished(Metrics(0), 1, 1e9);
    two.Started("colocated 1", 80, 1e9);
    two.EpochFinished(Metrics(0), 1, 1e9);
  }
  EXPECT_EQ(Text(registry), "");
}

class JobMetricsTableTest : public ::testing::Test {
 protected:
  bool Has(const std::string& job_id) {
    return absl::StrContains(Text(registry_), "\"" + job_id + "\"");
  }

  prometheus::Registry registry_;
  JobMetricsTable::TimePoint now_{};
};

TEST_F(JobMetricsTableTest, AnEndedJobStaysForAWhile) {
  JobMetricsTable table(registry_, {seconds(60), 10});
  table.Get("a", "x")->Started("colocated 1", 1, 1e9);
  table.Ended("a", now_);
  table.Ended("a", now_ + seconds(50));  // A second call changes nothing.
  table.Sweep(now_ + seconds(59));
  EXPECT_TRUE(Has("a"));
  table.Sweep(now_ + seconds(60));
  EXPECT_FALSE(Has("a"));
  EXPECT_EQ(table.size(), 0U);
}

TEST_F(JobMetricsTableTest, ARunningJobStaysForEver) {
  JobMetricsTable table(registry_, {seconds(60), 0});
  table.Get("a", "x")->Started("colocated 1", 1, 1e9);
  table.Sweep(now_ + seconds(1000000));
  EXPECT_TRUE(Has("a"));
  table.Ended("unknown", now_);
  EXPECT_EQ(table.size(), 1U);
}

TEST_F(JobMetricsTableTest, GetAgainMeansThatItRuns) {
  JobMetricsTable table(registry_, {seconds(60), 10});
  const JobMetrics* first = table.Get("a", "x").get();
  table.Ended("a", now_);
  EXPECT_EQ(table.Get("a", "x").get(), first);
  table.Sweep(now_ + seconds(1000));
  EXPECT_EQ(table.size(), 1U);
}

TEST_F(JobMetricsTableTest, TheNumberOfEndedJobsIsBounded) {
  JobMetricsTable table(registry_, {seconds(3600), 3});
  for (int i = 0; i < 100; ++i) {
    const std::string id = "job-" + std::to_string(i);
    table.Get(id, "x")->Started("colocated 1", 1, 1e9);
    table.Ended(id, now_ + seconds(i));
    table.Sweep(now_ + seconds(i));
    EXPECT_LE(table.size(), 3U);
  }
  EXPECT_TRUE(Has("job-99"));
  EXPECT_TRUE(Has("job-97"));
  EXPECT_FALSE(Has("job-96"));
}

TEST_F(JobMetricsTableTest, OnlyAJobWithAReporterIsSaidToRun) {
  JobMetricsTable table(registry_);
  table.SetRunning("a", false);
  EXPECT_EQ(table.size(), 0U);
  table.Get("a", "x")->Started("colocated 1", 1, 1e9);
  EXPECT_THAT(Text(registry_), HasSubstr("imageddpo_job_running{job_id=\"a\",job_name=\"x\"} 1"));
  table.SetRunning("a", false);
  EXPECT_THAT(Text(registry_), HasSubstr("imageddpo_job_running{job_id=\"a\",job_name=\"x\"} 0"));
}

TEST_F(JobMetricsTableTest, WhatSomeoneHoldsIsKept) {
  JobMetricsTable table(registry_, {seconds(60), 10});
  auto held = table.Get("a", "x");
  table.Ended("a", now_);
  table.Sweep(now_ + seconds(100));
  held->EpochFinished(Metrics(0), 1, 1e9);
  EXPECT_TRUE(Has("a"));
  held.reset();
  table.Sweep(now_ + seconds(100));
  EXPECT_FALSE(Has("a"));
}

TEST(Names, FollowTheRules) {
  std::set<std::string_view> seen;
  for (const metric::Info* info : AllMetrics()) {
    EXPECT_TRUE(seen.insert(info->name).second) << info->name << " twice";
    EXPECT_TRUE(absl::StartsWith(std::string(info->name), "imageddpo_")) << info->name;
    EXPECT_EQ(info->kind == metric::Kind::kCounter,
              absl::EndsWith(std::string(info->name), "_total"))
        << info->name;
    if (info->kind == metric::Kind::kHistogram) {
      EXPECT_TRUE(absl::EndsWith(std::string(info->name), "_seconds")) << info->name;
    }
    EXPECT_TRUE(absl::EndsWith(std::string(info->help), ".")) << info->name;
  }
}

}  // namespace
}  // namespace imageddpo

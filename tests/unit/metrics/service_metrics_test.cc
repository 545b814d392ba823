#include "common/metrics/service_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <string>

#include "imageddpo/v1/metrics.pb.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Exposition(const prometheus::Registry& registry) {
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

class ServiceMetricsTest : public ::testing::Test {
 protected:
  prometheus::Registry registry_;
  ServiceMetrics metrics_{registry_,
                          {"0.1.0", "abc123", "cpu"},
                          std::chrono::system_clock::time_point(std::chrono::milliseconds(1500))};
};

TEST_F(ServiceMetricsTest, EveryStateIsThereFromTheStart) {
  const std::string text = Exposition(registry_);
  for (const char* state : {"QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "RECOVERING",
                            "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"}) {
    EXPECT_THAT(text, HasSubstr(std::string("imageddpo_jobs{state=\"") + state + "\"} 0"));
    EXPECT_THAT(
        text, HasSubstr(std::string("imageddpo_job_transitions_total{state=\"") + state + "\"} 0"));
  }
  EXPECT_THAT(text, Not(HasSubstr("UNSPECIFIED")));
  EXPECT_THAT(
      text,
      HasSubstr("imageddpo_build_info{commit=\"abc123\",device=\"cpu\",version=\"0.1.0\"} 1"));
  EXPECT_THAT(text, HasSubstr("imageddpo_process_start_time_seconds 1.5"));
}

TEST_F(ServiceMetricsTest, JobsFollowTheStore) {
  metrics_.SetJobs({{v1::QUEUED, 2}, {v1::RUNNING, 1}});
  metrics_.JobEntered(v1::RUNNING);
  metrics_.JobEntered(v1::RUNNING);
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_jobs{state=\"QUEUED\"} 2"));
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_queue_depth 2"));
  EXPECT_THAT(Exposition(registry_),
              HasSubstr("imageddpo_job_transitions_total{state=\"RUNNING\"} 2"));
  metrics_.SetJobs({{v1::SUCCEEDED, 3}});
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_jobs{state=\"RUNNING\"} 0"));
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_jobs{state=\"SUCCEEDED\"} 3"));
}

TEST_F(ServiceMetricsTest, WorkersComeAndGo) {
  metrics_.SetWorkers(1, 2, 1);
  metrics_.SetHeartbeatAge(1, 0.5);
  metrics_.SetHeartbeatAge(2, 0.25);
  metrics_.SetHeartbeatAge(2, 1.25);
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_workers{state=\"busy\"} 2"));
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_workers{state=\"dead\"} 1"));
  EXPECT_THAT(Exposition(registry_),
              HasSubstr("imageddpo_worker_heartbeat_age_seconds{rank=\"2\"} 1.25"));
  metrics_.WorkerDied(2);
  metrics_.WorkerDied(77);
  EXPECT_THAT(Exposition(registry_), Not(HasSubstr("rank=\"2\"")));
  EXPECT_THAT(Exposition(registry_), HasSubstr("rank=\"1\"} 0.5"));
}

TEST_F(ServiceMetricsTest, ADeadWorkersMemoryGoesAndItsCountersStay) {
  v1::RankStats stats;
  stats.set_resident_bytes(1000);
  stats.set_sent_message_bytes(70);
  metrics_.SetRank(2, stats);
  metrics_.SetRank(2, stats);
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_rank_resident_bytes{rank=\"2\"} 1000"));
  EXPECT_THAT(Exposition(registry_),
              HasSubstr("rank_sent_bytes_total{rank=\"2\",transport=\"messages\"} 70"));
  for (const char* name : {"device_allocated_bytes{", "gpu_power_watts{", "gpu_used_bytes{"}) {
    EXPECT_THAT(Exposition(registry_), Not(HasSubstr(name))) << "it has no GPU";
  }
  stats.set_sent_message_bytes(90);
  stats.set_device_allocated_bytes(5);
  stats.set_gpu_power_watts(300.5);
  stats.set_gpu_used_bytes(6);
  stats.set_sent_nccl_bytes(7);
  metrics_.SetRank(2, stats);
  EXPECT_THAT(Exposition(registry_),
              HasSubstr("rank_sent_bytes_total{rank=\"2\",transport=\"messages\"} 90"));
  EXPECT_THAT(Exposition(registry_),
              HasSubstr("rank_sent_bytes_total{rank=\"2\",transport=\"NCCL\"} 7"));
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_rank_gpu_power_watts{rank=\"2\"} 300.5"));
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_rank_gpu_used_bytes{rank=\"2\"} 6"));
  EXPECT_THAT(Exposition(registry_), Not(HasSubstr("gpu_busy_ratio{")))
      << "this GPU does not say it";
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_worker_deaths_total 0"));
  metrics_.WorkerDied(2);
  EXPECT_THAT(Exposition(registry_), HasSubstr("imageddpo_worker_deaths_total 1"));
  EXPECT_THAT(Exposition(registry_), Not(HasSubstr("imageddpo_rank_resident_bytes{")));
  EXPECT_THAT(Exposition(registry_), Not(HasSubstr("imageddpo_rank_gpu_power_watts{")));
  EXPECT_THAT(Exposition(registry_), HasSubstr("transport=\"messages\"} 90"));
}

TEST_F(ServiceMetricsTest, TimesAreInHistograms) {
  metrics_.QueueWaited(20);
  metrics_.StoreWritten(0.002);
  metrics_.Ticked(0.002);
  metrics_.CheckpointWritten(0.25);
  metrics_.RewardCalled(false, 20);
  v1::EpochMetrics epoch;
  (*epoch.mutable_stage_seconds())["sample"] = 3;
  metrics_.EpochFinished(epoch.stage_seconds());
  const std::string text = Exposition(registry_);
  EXPECT_THAT(text, HasSubstr("imageddpo_queue_wait_seconds_sum 20"));
  EXPECT_THAT(text, HasSubstr("imageddpo_store_write_seconds_bucket{le=\"0.001\"} 0"));
  EXPECT_THAT(text, HasSubstr("imageddpo_store_write_seconds_bucket{le=\"0.0025\"} 1"));
  EXPECT_THAT(text, HasSubstr("imageddpo_tick_seconds_count 1"));
  EXPECT_THAT(text, HasSubstr("imageddpo_checkpoint_write_seconds_sum 0.25"));
  EXPECT_THAT(text, HasSubstr("imageddpo_reward_call_seconds_count{outcome=\"ok\"} 0"));
  EXPECT_THAT(text, HasSubstr("imageddpo_reward_call_seconds_count{outcome=\"error\"} 1"));
  EXPECT_THAT(text, HasSubstr("imageddpo_stage_seconds_sum{stage=\"sample\"} 3"));
}

TEST_F(ServiceMetricsTest, RpcsAreCountedByMethodAndCode) {
  metrics_.RpcFinished("SubmitJob", absl::StatusCode::kOk, 0.004);
  metrics_.RpcFinished("SubmitJob", absl::StatusCode::kOk, 0.3);
  metrics_.RpcFinished("SubmitJob", absl::StatusCode::kInvalidArgument, 0.001);
  const std::string text = Exposition(registry_);
  EXPECT_THAT(text, HasSubstr("imageddpo_rpcs_total{code=\"OK\",method=\"SubmitJob\"} 2"));
  EXPECT_THAT(text,
              HasSubstr("imageddpo_rpcs_total{code=\"INVALID_ARGUMENT\",method=\"SubmitJob\"} 1"));
  EXPECT_THAT(
      text, HasSubstr("imageddpo_rpc_duration_seconds_count{code=\"OK\",method=\"SubmitJob\"} 2"));
  EXPECT_THAT(text, HasSubstr("code=\"OK\",method=\"SubmitJob\",le=\"0.005\"} 1"));
}

}  // namespace
}  // namespace imageddpo

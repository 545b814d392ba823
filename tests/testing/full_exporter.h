#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/base/clock.h"
#include "common/metrics/http_exporter.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"

namespace imageddpo {

/// An exporter on a free port in which every metric of names.h has a value: two jobs, one of them
/// resumed, three workers. For tests of what reads the metrics.
class FullExporter {
 public:
  FullExporter()
      : service_(*registry_, {"0.1.0", "0123abc", "cpu"}, std::chrono::system_clock::now()),
        jobs_(*registry_) {
    auto exporter = HttpServer::Start({Address::Of("127.0.0.1", 0)}, {MetricsRoute(registry_)});
    if (!exporter.ok()) throw std::runtime_error(exporter.status().ToString());
    exporter_ = *std::move(exporter);
    jobs_.Get("job-000001", "deblur")->Started("rollout 1, trainer 1", 80, Now());
    jobs_.Get("job-000002", "small jpegs")->Started("colocated 1", 20, Now());
    jobs_.Get("job-000002", "small jpegs")->Resumed();
    service_.SetWorkers(1, 2, 1);
    for (int rank = 1; rank <= 3; ++rank) service_.SetHeartbeatAge(rank, 0.1 * rank);
    service_.WorkerSlow(1);
    Step();
  }

  int port() const { return exporter_->port(); }

  /// Another epoch of both jobs and a few calls of the API.
  void Step() {
    for (const auto& [id, name] :
         {std::pair("job-000001", "deblur"), std::pair("job-000002", "small jpegs")}) {
      JobMetrics& job = *jobs_.Get(id, name);
      v1::EpochMetrics metrics;
      metrics.set_epoch(epoch_);
      metrics.set_samples_seen((epoch_ + 1) * 128);
      metrics.set_reward_mean(0.9 + 0.01 * static_cast<double>(epoch_));
      metrics.set_reward_std(0.8);
      metrics.set_reward_min(-1);
      metrics.set_reward_p10(-0.2);
      metrics.set_reward_median(0.9);
      metrics.set_reward_p90(1.8);
      metrics.set_reward_max(2.5);
      metrics.set_advantage_std(1);
      metrics.set_advantage_max(2.4);
      metrics.set_left_out_fraction(0.125);
      metrics.set_update_norm(0.02);
      metrics.set_ema_distance(0.1);
      metrics.set_zero_std_ratio(0.25);
      metrics.set_loss(-0.001);
      metrics.set_approx_kl(1e-5);
      metrics.set_clipfrac(0.2);
      metrics.set_clip_fraction_high(0.15);
      metrics.set_clip_fraction_low(0.05);
      metrics.set_kl_step_mean(0.01);
      metrics.set_kl_step_max(0.2);
      metrics.set_masked_fraction(0.1);
      metrics.set_kl_to_base(0.5);
      metrics.set_sft_loss(0.3);
      metrics.set_grad_norm(0.7);
      metrics.set_learning_rate(3e-4);
      metrics.set_epoch_seconds(2.5);
      metrics.set_mfu(0.5);
      metrics.set_images_per_second(51.2);
      metrics.set_loss_scale(65536);
      metrics.set_skipped_updates(2);
      metrics.set_images_skipped(20);
      metrics.set_sample_age(1);
      metrics.set_behaviour_ratio_mean(1.001);
      metrics.set_behaviour_ratio_std(0.004);
      metrics.set_proximal_ratio_mean(1);
      metrics.set_proximal_ratio_std(0.002);
      for (const char* stage : {"sample", "reward", "rollout_wait", "wait", "train", "publish"}) {
        (*metrics.mutable_stage_seconds())[stage] = 0.4;
      }
      (*metrics.mutable_parts_mean())["classifier.value"] = 0.9;
      job.EpochFinished(metrics, 128, Now());
      v1::EvalReport eval;
      eval.set_epoch(epoch_);
      eval.set_reward_mean(1.1);
      eval.set_reward_stderr(0.1);
      (*eval.mutable_parts_stderr())["classifier.correct"] = 0.02;
      (*eval.mutable_parts_mean())["classifier.correct"] = 0.5;
      job.Evaluated(eval);
      job.CheckpointWritten(epoch_, 123456, Now());
      job.GuardFired("approx_kl");
      service_.EpochFinished(metrics.stage_seconds());
    }
    service_.SetJobs({{v1::QUEUED, 1}, {v1::RUNNING, 2}, {v1::SUCCEEDED, 4}});
    service_.JobEntered(v1::RUNNING);
    v1::RankStats stats;
    stats.set_resident_bytes(int64_t{1} << 30);
    stats.set_device_allocated_bytes(int64_t{2} << 30);
    stats.set_device_reserved_bytes(int64_t{3} << 30);
    stats.set_gpu_power_watts(310.5);
    stats.set_gpu_busy_ratio(0.9);
    stats.set_gpu_used_bytes(int64_t{4} << 30);
    stats.set_sent_message_bytes(1000 * (epoch_ + 1));
    stats.set_sent_nccl_bytes(int64_t{1000000} * (epoch_ + 1));
    for (int rank = 1; rank <= 3; ++rank) service_.SetRank(rank, stats);
    service_.QueueWaited(20);
    service_.CheckpointWritten(0.2);
    service_.RewardCalled(true, 0.5);
    service_.RewardCalled(false, 60);
    service_.StoreWritten(0.01);
    service_.Ticked(0.002);
    service_.SetDataDirFree(5e10);
    service_.Removed(1 << 20);
    service_.SetCertificateExpiry(Now() + 8e6);
    service_.RpcFinished("ListJobs", absl::StatusCode::kOk, 0.002);
    service_.RpcFinished("SubmitJob", absl::StatusCode::kInvalidArgument, 0.004);
    ++epoch_;
  }

 private:
  static double Now() { return SystemClock().UnixSeconds(); }

  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  ServiceMetrics service_;
  JobMetricsTable jobs_;
  std::unique_ptr<HttpServer> exporter_;
  int64_t epoch_ = 0;
};

}  // namespace imageddpo

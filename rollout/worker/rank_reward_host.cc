#include "rollout/worker/rank_reward_host.h"

#include <memory>
#include <string>
#include <utility>

namespace imageddpo {

RewardHost MakeRewardHost(JobContext* context) {
  const auto told = std::make_shared<std::string>();  // What the controller knows.
  RewardHost host{.clock = &context->clock};
  host.watch = [context, told](const std::string& waiting_for) -> absl::Status {
    if (context->stop.requested()) return absl::CancelledError("the job was asked to stop");
    if (waiting_for == *told) return absl::OkStatus();
    if (waiting_for.empty()) {
      context->logger->info("goes on: no longer waiting for {}", *told);
    } else {
      context->logger->warn("waits for {}", waiting_for);
    }
    *told = waiting_for;
    v1::WorkerMessage message;
    message.mutable_waiting()->set_job_id(context->start.job_id());
    message.mutable_waiting()->set_what(waiting_for);
    context->report(std::move(message));
    return absl::OkStatus();
  };
  host.on_call = [context](bool ok, double seconds) {
    v1::WorkerMessage message;
    message.mutable_reward_call()->set_job_id(context->start.job_id());
    message.mutable_reward_call()->set_ok(ok);
    message.mutable_reward_call()->set_seconds(seconds);
    context->report(std::move(message));
  };
  host.warn = [context](const std::string& warning) { context->Warn(warning); };
  return host;
}

}  // namespace imageddpo

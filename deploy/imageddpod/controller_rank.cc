#include "deploy/imageddpod/controller_rank.h"

#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "common/worker/exit_codes.h"
#include "deploy/imageddpo/version.h"
#include "rollout/reward/remote/remote_options.h"
#include "trainer/controller/controller_service.h"

namespace imageddpo {

RankOutcome RunControllerRank(const ClusterConfig& cluster, ControllerChannel& channel,
                              const std::string& device_kind,
                              const std::shared_ptr<spdlog::logger>& logger,
                              const std::function<bool()>& stop_requested,
                              const std::function<void(const RankOutcome&)>& on_restart) {
  SystemClock clock;
  PosixFileSystem file_system;
  auto service = ControllerService::Start(
      cluster,
      {.channel = channel,
       .file_system = file_system,
       .clock = clock,
       .logger = logger,
       .build = {.version = kVersion, .commit = kCommit, .device = device_kind},
       .ask_rewards = [&clock](const ResolvedJob& job, const std::function<bool()>& is_stopped) {
         return AreRewardServicesThere(job, clock, is_stopped);
       }});
  if (!service.ok()) {
    logger->error("the service cannot start: {}", service.status().ToString());
    return {.exit_code = kExitRefused};
  }
  logger->info("gRPC on {}, page and metrics on {}://{}/, data in {}", (*service)->grpc_address(),
               (*service)->http_has_tls() ? "https" : "http", (*service)->http_address(),
               cluster.data_dir);
  const auto reason = (*service)->Run(stop_requested);
  if (!reason.ok()) {
    logger->error("the service ends: {}", reason.status().ToString());
    return {.exit_code = kExitRefused};
  }
  if (*reason != Controller::ExitReason::kStopped) {
    const RankOutcome outcome = {.exit_code = kExitRestart,
                                 .worked = *reason == Controller::ExitReason::kRestartAfterWork};
    on_restart(outcome);
    return outcome;
  }
  logger->info("stopped; jobs under way go on at the next start");
  return {};
}

}  // namespace imageddpo

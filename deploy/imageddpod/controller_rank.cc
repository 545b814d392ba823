#include "deploy/imageddpod/controller_rank.h"

#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/worker/exit_codes.h"
#include "deploy/imageddpo/version.h"
#include "rollout/reward/remote/remote_options.h"
#include "trainer/controller/controller_service.h"

namespace imageddpo {
namespace {

constexpr std::chrono::milliseconds kFirstPause{250};

/// Errors of a start that may be gone in a moment: of a disk; or of a lock, a socket or a port that
/// the service before this one still holds.
bool MayPass(const absl::Status& status) {
  const auto fault = FaultOf(status);
  return (fault.has_value() && fault->passes) || absl::IsFailedPrecondition(status) ||
         absl::IsUnavailable(status);
}

}  // namespace

RankOutcome RunControllerRank(const ClusterConfig& cluster, ControllerChannel& channel,
                              const std::string& device_kind,
                              const std::shared_ptr<spdlog::logger>& logger,
                              const std::function<bool()>& stop_requested,
                              const std::function<void(const RankOutcome&)>& on_restart) {
  // What is written is for this user alone, or to be read by the group that may use the socket.
  ::umask(cluster.grpc.group.empty() ? S_IRWXG | S_IRWXO : S_IWGRP | S_IRWXO);
  SystemClock clock;
  PosixFileSystem file_system;
  const auto start = [&] {
    return ControllerService::Start(
        cluster,
        {.channel = channel,
         .file_system = file_system,
         .clock = clock,
         .logger = logger,
         .build = {.version = kVersion, .commit = kCommit, .device = device_kind},
         .ask_rewards = [&clock](const ResolvedJob& job, const std::function<bool()>& is_stopped) {
           return AreRewardServicesThere(job, clock, is_stopped);
         }});
  };
  auto service = start();
  const double patience_s = cluster.pool.lease_seconds / 2;
  const double begin_s = clock.NowSeconds();
  for (std::chrono::milliseconds pause = kFirstPause;
       !service.ok() && MayPass(service.status()) && !stop_requested() &&
       clock.NowSeconds() - begin_s < patience_s;
       pause *= 2) {
    logger->warn("the service cannot start yet: {}; trying again", service.status().ToString());
    std::this_thread::sleep_for(pause);
    service = start();
  }
  if (!service.ok()) {
    const auto fault = FaultOf(service.status());
    const bool passes = fault.has_value() && fault->passes;
    logger->error("the service cannot start: {}{}", service.status().ToString(),
                  passes ? "; the launcher tries again" : "");
    return {.exit_code = passes ? kExitRestart : kExitRefused};
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

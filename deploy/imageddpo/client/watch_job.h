#pragma once

#include <string>

#include "common/base/clock.h"
#include "deploy/imageddpo/client/client.h"
#include "deploy/imageddpo/client/exit_codes.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {

struct WatchOptions {
  /// How long to wait for a service that went away, since it last answered.
  double wait_seconds = 600;
};

/// Shows a job's events until it ends; survives restarts of the service, going on after the last
/// event seen. @return kOk: succeeded; kJobFailed: failed or cancelled; kInterrupted: the user
/// stopped watching (the job goes on); kNotFound, kUnreachable: as they say, already reported.
ExitCode WatchUntilEnd(Client& client, Screen& screen, Clock& clock, const std::string& job_id,
                       const WatchOptions& options);

}  // namespace imageddpo

#pragma once

#include <optional>
#include <string>

#include "common/base/clock.h"
#include "deploy/imageddpo/client/client.h"
#include "deploy/imageddpo/client/exit_codes.h"
#include "deploy/imageddpo/text/screen.h"
#include "deploy/imageddpo/text/terminal_picture.h"

namespace imageddpo {

struct WatchOptions {
  /// How long to wait for a service that went away, since it last answered.
  double wait_seconds = 600;
  /// How the newest evaluation's pictures are shown beside the first one's; not set: not at all.
  /// Only on a terminal.
  std::optional<PictureProtocol> pictures = std::nullopt;
  bool has_true_colour = false;  ///< See PictureText().
};

/// Shows a job's events until it ends; survives restarts of the service, going on after the last
/// event seen. @return kOk: succeeded; kJobFailed: failed or cancelled; kInterrupted: the user
/// stopped watching (the job goes on); kNotFound, kUnreachable: as they say, already reported.
ExitCode WatchUntilEnd(Client& client, Screen& screen, Clock& clock, const std::string& job_id,
                       const WatchOptions& options);

}  // namespace imageddpo

#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "deploy/imageddpo/client/client.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {

/// The content of a small file of a job, held against its SHA-256.
/// @return NOT_FOUND: there is no such file.
absl::StatusOr<std::string> ReadArtifact(Client& client, const std::string& job_id,
                                         const std::string& name);

/// Whether a name that the service told is one of a file below a folder: "a", "a/b", not "../a".
bool IsSafeName(std::string_view name);

struct DownloadOptions {
  /// How long to wait for a service that went away, since it last sent something.
  double wait_seconds = 600;
};

/// Downloads a file of a job to `path`, whose folder is made. What came is kept in PATH.part until
/// the file is whole and has the SHA-256 that the service tells; then it gets its name. A call
/// that finds PATH.part goes on with it, and one that finds the same file at `path` leaves it.
/// Shows its progress on the changing line of `screen`.
/// @return DATA_LOSS: what came twice has another SHA-256; UNAVAILABLE: the service stays away, and
///         PATH.part is kept; FAILED_PRECONDITION: another process downloads to `path`.
absl::Status DownloadFile(Client& client, Screen& screen, Clock& clock, const std::string& job_id,
                          const v1::Artifact& artifact, const std::string& path,
                          const DownloadOptions& options);

}  // namespace imageddpo

#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

// Copies of a data directory, and the way back. A backup is a folder: jobs.db, jobs/<id>/ and
// backup.json, which lists all files with their sizes and is written last. All functions take as
// long as the disk needs. Errors name the file.

enum class BackupFiles {
  kAll,
  kNewest,  ///< Of checkpoints the two newest and the best; no pictures.
  kNone,    ///< The job store alone.
};

struct BackupReport {
  int64_t num_files = 0;
  int64_t size_bytes = 0;
};

/// Copies a snapshot of the job store, made by JobStore::BackUp(), and files of jobs, also while
/// a service writes them. Checkpoints and pictures, which are written once, become hard links where
/// `target` lies on the same disk.
/// @param target  does not exist, or is an empty folder.
absl::StatusOr<BackupReport> WriteBackup(const std::string& data_dir, const std::string& snapshot,
                                         const std::string& target, BackupFiles files);

/// Checks that a backup is whole, copies it into a data directory without jobs, and checks the job
/// store there.
/// @return FAILED_PRECONDITION: a service owns data_dir, it has jobs, or a newer version made the
///         backup; DATA_LOSS: a file is missing or has changed.
absl::StatusOr<BackupReport> RestoreBackup(const std::string& backup, const std::string& data_dir);

}  // namespace imageddpo

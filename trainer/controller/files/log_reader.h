#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/files/artifact_file.h"

namespace imageddpo {

/// Reads the lines of a job's log in their order, over its change to a new file, while it is
/// written. Blocks on the disk. Thread-compatible.
class LogReader {
 public:
  explicit LogReader(std::string job_dir) : job_dir_(std::move(job_dir)) {}

  /// Goes on at a place that cursor() gave. If the file it was in is gone, with the oldest lines
  /// that there are. @return INVALID_ARGUMENT: it is none.
  absl::Status GoTo(const std::string& cursor);
  std::string cursor() const;

  /// Appends the next lines, those of up to 256 KiB.
  /// @return false: there is nothing more now.
  absl::StatusOr<bool> Read(std::vector<v1::LogLine>* lines);

 private:
  /// Numbers of files are used again: the time of its first row tells a file from a later one.
  struct FileId {
    uint64_t inode = 0;         // 0: no file.
    int64_t first_row_ms = -1;  // -1: it has no whole row yet.
  };
  static absl::StatusOr<FileId> IdOf(const std::optional<ArtifactFile>& file);
  bool IsRead(const FileId& id) const;

  const std::string job_dir_;
  FileId read_;  // The file that is read.
  int64_t offset_ = 0;
};

}  // namespace imageddpo

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/io/file_system.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// Writes the files of one job below <data_dir>/jobs/<id>/, except checkpoints:
///
///   job.yaml                      the job, with every setting filled in
///   metrics.jsonl                 one row per update; the same bytes for the same job,
///                                 interrupted or not
///   timings.jsonl                 one row per epoch: wall times
///   samples/epoch-000012/*.png    pictures of an epoch
///   eval/epoch-000010.jsonl       one row per held-out image; pictures in eval/epoch-000010/
///
/// Rows that could not be written (disk full) are kept and written with the next ones. Errors name
/// the file and the remedy. Blocks on the disk. Thread-compatible.
class JobArtifacts {
 public:
  /// @param file_system  must outlive the object.
  JobArtifacts(FileSystem& file_system, std::string job_dir);

  /// Creates the directory and writes job.yaml.
  absl::Status Begin(const v1::JobSpec& spec);

  /// Call it before a job continues from epoch `epoch`. Removes the rows of that epoch and later
  /// ones, and an incomplete last line, from metrics.jsonl and timings.jsonl, because those epochs
  /// run again.
  absl::Status CutBackTo(int64_t epoch);

  /// Takes over the rows of another job's folder that are of epochs before `epoch`. Creates the
  /// directory.
  absl::Status TakeRowsOf(const std::string& other_job_dir, int64_t epoch);

  absl::Status WriteEpoch(const v1::EpochReport& report);
  absl::Status WriteEval(const v1::EvalReport& report);

  /// Syncs all rows so far to the disk. Call it before saving a checkpoint, which relies on them.
  absl::Status SyncRows();

  const std::string& directory() const { return directory_; }

 private:
  absl::Status AppendRows(const std::string& name, std::string_view rows);
  absl::Status WritePictures(const std::string& directory,
                             const google::protobuf::RepeatedPtrField<v1::NamedBytes>& pictures);

  FileSystem& file_system_;
  const std::string directory_;
  std::map<std::string, std::string> unwritten_;  // By file name.
};

}  // namespace imageddpo

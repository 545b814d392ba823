#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/io/file_system.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// What a job leaves for people and tools below <data_dir>/jobs/<id>/, checkpoints apart:
///
///   job.yaml                      the job, every setting filled in
///   metrics.jsonl                 one row per update; the same bytes for the same job, however
///   often
///                                 it was interrupted
///   timings.jsonl                 one row per epoch: wall times
///   samples/epoch-000012/*.png    pictures of an epoch
///   eval/epoch-000010.jsonl       one row per held-out image; pictures in eval/epoch-000010/
///
/// Rows that a full disk refused are kept and written with the next ones. Errors name the file and
/// the remedy. Blocks on the disk. Thread-compatible.
class JobArtifacts {
 public:
  /// @param file_system  must outlive the object.
  JobArtifacts(FileSystem& file_system, std::string job_dir);

  /// Makes the directory and job.yaml.
  absl::Status Begin(const v1::JobSpec& spec);

  /// Before a job goes on: takes the rows of epochs from `epoch` on (and a torn last line) out of
  /// metrics.jsonl and timings.jsonl, since those epochs are run again.
  absl::Status CutBackTo(int64_t epoch);

  absl::Status WriteEpoch(const v1::EpochReport& report);
  absl::Status WriteEval(const v1::EvalReport& report);

  /// The rows so far are on the disk, also after a power cut: call it before a checkpoint that
  /// takes them for granted.
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

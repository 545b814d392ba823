#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "common/io/file_system.h"
#include "imageddpo/v1/control.pb.h"
#include "trainer/controller/store/artifact_writer.h"

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
/// Rows that could not be written (disk full) are kept and written with the next ones or by
/// SyncRows(). Pictures are not written here but given out, for the ArtifactWriter. Errors name the
/// file and the remedy. Blocks on the disk. Thread-compatible.
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

  /// The report's pictures, moved out of it, with the folder where they belong. `files` is empty if
  /// it has none.
  ArtifactWriter::Folder TakePictures(v1::EpochReport* report) const;
  ArtifactWriter::Folder TakePictures(v1::EvalReport* report) const;

  /// Writes what could not be written and syncs all rows so far to the disk. Call it before saving
  /// a checkpoint, which relies on them. OK: every row is on disk.
  absl::Status SyncRows();
  /// Whether no row waits to be written.
  bool AllWritten() const;

  const std::string& directory() const { return directory_; }

 private:
  absl::Status AppendRows(const std::string& name, std::string_view rows);
  absl::Status WriteUnwrittenEvals();

  FileSystem& file_system_;
  const std::string directory_;
  std::map<std::string, std::string> unwritten_;    // By file name.
  std::map<int64_t, std::string> unwritten_evals_;  // Rows, by epochs trained before.
};

}  // namespace imageddpo

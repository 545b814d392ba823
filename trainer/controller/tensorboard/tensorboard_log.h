#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/tensorboard.pb.h"

namespace imageddpo {

/// Writes <job_dir>/tensorboard/events.out.tfevents.*: the numbers of metrics.jsonl, of epochs and
/// of evaluations. The step is the number of the update; numbers of an epoch have that of its last
/// update, an evaluation that of the first one after it. A job that continues gets a new file,
/// whose beginning tells TensorBoard to forget what earlier files have of the steps that run again.
///
/// Pictures are event files of their own, for others to write: one for each step, in a folder of
/// their own, so that steps that run again replace theirs.
///
/// What could not be written (disk full) is kept and written with the next. Blocks on the disk.
/// Thread-compatible.
class TensorBoardLog {
 public:
  /// @param file_system, clock  must outlive the object.
  /// @param updates_per_epoch   at least 1.
  /// @param settings            the job's, by name, for the plugin "hparams"; numbers and true and
  ///                            false are shown as such, everything else as text.
  TensorBoardLog(FileSystem& file_system, const Clock& clock, std::string job_dir,
                 int64_t updates_per_epoch, std::map<std::string, std::string> settings = {});

  /// Call it before the job starts or continues from epoch `epoch`, when metrics.jsonl has only the
  /// rows before it. Where there is no event file yet, those rows come into the new one.
  absl::Status ContinueFrom(int64_t epoch);

  absl::Status WriteEpoch(const v1::EpochReport& report);
  absl::Status WriteEval(const v1::EvalReport& report);

  struct File {
    std::string directory, name;
    std::string content;  ///< Empty: there are no pictures.
  };
  /// Pictures of an epoch, and of an evaluation; at most 16 each.
  File SamplesFile(const v1::EpochReport& report) const;
  File EvalFile(const v1::EvalReport& report) const;

  /// Syncs what was written. Call it before a checkpoint is saved.
  absl::Status Sync();

 private:
  using Summary = v1::tensorboard::Summary;

  /// An event as a record of a file.
  std::string RecordOf(v1::tensorboard::Event event, int64_t step) const;
  void AddSummary(const Summary& summary, int64_t step);
  void AddRow(std::string_view row);
  void AddSettings();
  File FileOf(const std::string& name, int64_t step,
              const google::protobuf::RepeatedPtrField<v1::NamedBytes>& pictures) const;
  int64_t LastUpdateOf(int64_t epoch) const { return (epoch + 1) * updates_per_epoch_ - 1; }
  absl::Status Flush();

  FileSystem& file_system_;
  const Clock& clock_;
  const std::string job_dir_, folder_;
  const int64_t updates_per_epoch_;
  const std::map<std::string, std::string> settings_;
  std::string file_;     ///< Path; empty before ContinueFrom().
  std::string pending_;  ///< Records that are not in the file yet.
};

}  // namespace imageddpo

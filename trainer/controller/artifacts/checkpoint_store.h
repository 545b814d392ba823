#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/choices.h"
#include "common/io/file_system.h"
#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// The checkpoints of one job: a directory `epoch-000012` each, with
/// `pytorch_lora_weights.safetensors` (what diffusers' load_lora_weights reads),
/// `optimizer.safetensors`, `state.json`, `lora_ema.safetensors` where the job has an average, and
/// MANIFEST. A checkpoint becomes visible as a whole: its
/// files are written to a temporary directory and synced, MANIFEST (JSON: format, epoch, size and
/// SHA-256 of each file) last; then the directory is renamed. A checkpoint is read only if every
/// byte matches its MANIFEST. Handles bytes, not tensors. Blocks on the disk. Thread-compatible.
class CheckpointStore {
 public:
  /// @param file_system  must outlive the store.
  /// @param directory    <data_dir>/jobs/<id>/checkpoints.
  CheckpointStore(FileSystem& file_system, std::string directory);

  /// Creates the directory if it is missing, and removes incomplete writes of a crashed process.
  /// Call it once, first, while nothing else writes there.
  absl::Status Open();

  /// Writes a checkpoint. If the epoch has one already, equal bytes change nothing; different or
  /// damaged ones are replaced. After an error the older checkpoints are unchanged.
  /// @return its directory. RESOURCE_EXHAUSTED: the disk is full. INVALID_ARGUMENT: a negative
  ///         epoch.
  absl::StatusOr<std::string> Save(const v1::Checkpoint& checkpoint);

  struct Found {
    /// Not set: there is no complete one. Its job_id is empty.
    std::optional<v1::Checkpoint> checkpoint;
    std::string path;                   ///< Its directory.
    std::vector<std::string> warnings;  ///< What was wrong with newer ones, one line each.
  };
  /// The newest complete checkpoint, with all bytes checked. One is passed over only if it is
  /// damaged: bytes or format are not what MANIFEST says, or a file is missing.
  /// @return an error if the directory or a checkpoint cannot be read now (EIO, ESTALE, EMFILE, no
  ///         permission): nothing is known of it then, and it should be tried again.
  absl::StatusOr<Found> Newest();

  /// The checkpoint of an epoch, with all bytes checked.
  /// @return FAILED_PRECONDITION, with those that are complete, if there is no complete one of that
  ///         epoch.
  absl::StatusOr<v1::Checkpoint> Get(int64_t epoch) const;

  /// Removes all but the newest `keep` complete checkpoints, and damaged ones older than those. The
  /// newest complete one always stays. @param keep  0: keep all.
  absl::Status Prune(int64_t keep);

  /// Makes the checkpoint of `epoch` the newest one: removes all later ones.
  /// @return as Get(); the error of the disk if it cannot be told now what there is. Nothing is
  ///         removed then.
  absl::Status GoBackTo(int64_t epoch);
  /// The same with the newest complete one of at most `most` epochs. @return its epoch; 0 where
  /// there is no checkpoint at all. NOT_FOUND: there are only later ones, and nothing was removed.
  absl::StatusOr<int64_t> GoBackToAtMost(int64_t most);

  /// The LoRA of the best evaluation so far, in `best-epoch-000012` beside the checkpoints, with
  /// best.json and MANIFEST; written like a checkpoint, and not touched by Prune().
  struct Best {
    int64_t epoch = 0;  ///< Epochs trained before the evaluation.
    double value = 0;   ///< Finite.
  };
  /// Whether `value` is better than `best`: one that is not finite never is, an equal one neither.
  static bool IsBetter(double value, const std::optional<Best>& best, BestMode mode);
  /// Writes it, then removes the others: a crash between leaves both, of which one is the better.
  /// @return its LoRA file.
  absl::StatusOr<std::string> SaveBest(const Best& best, std::string_view lora);
  /// What SaveBest() has written; the better of two. Damaged ones are passed over, with a warning;
  /// one that cannot be read now is an error.
  absl::StatusOr<std::optional<Best>> LoadBest(BestMode mode, std::vector<std::string>* warnings);
  std::string BestLoraFile(int64_t epoch) const;

  /// Epochs that have a directory, complete or not, in ascending order.
  absl::StatusOr<std::vector<int64_t>> Epochs() const;

  const std::string& directory() const { return directory_; }
  /// <directory>/epoch-000012.
  std::string PathOf(int64_t epoch) const;
  /// The LoRA file of a checkpoint's directory.
  static std::string LoraFileIn(const std::string& checkpoint_path);

 private:
  absl::StatusOr<v1::Checkpoint> Load(int64_t epoch) const;
  std::string BestPathOf(int64_t epoch) const;
  absl::StatusOr<Best> ReadBest(const std::string& path) const;
  absl::Status Remove(int64_t epoch);
  using File = std::pair<const char*, std::string_view>;  ///< Name and content.
  /// Writes a directory with these files and a MANIFEST, all of it or nothing.
  absl::Status WriteWhole(const std::string& path, int64_t epoch, const std::vector<File>& files);
  /// Removes a directory so that a crash does not leave half of it behind.
  absl::Status RemoveWhole(const std::string& path);

  FileSystem& file_system_;
  const std::string directory_;
  std::set<int64_t>
      known_complete_;  // Saved or checked by this object: Prune() does not read them again.
};

}  // namespace imageddpo

#include "trainer/controller/jobs/checkpoint_store.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/io/file.h"
#include "trainer/controller/jobs/manifest.h"

namespace imageddpo {
namespace {

constexpr char kManifestName[] = "MANIFEST";
constexpr char kLoraName[] = "pytorch_lora_weights.safetensors";
constexpr char kOptimizerName[] = "optimizer.safetensors";
constexpr char kStateName[] = "state.json";
constexpr char kEmaLoraName[] = "lora_ema.safetensors";  // Only of jobs with an average.
constexpr char kPrefix[] = "epoch-";

/// The epoch of a directory's name; -1 for other names.
int64_t EpochOf(absl::string_view name) {
  int64_t epoch = -1;
  if (!absl::ConsumePrefix(&name, kPrefix) || name.empty() || !absl::SimpleAtoi(name, &epoch))
    return -1;
  return epoch;
}

bool SameContent(const v1::Checkpoint& a, const v1::Checkpoint& b) {
  return a.epoch() == b.epoch() && a.lora() == b.lora() && a.optimizer() == b.optimizer() &&
         a.state() == b.state() && a.ema_lora() == b.ema_lora();
}

}  // namespace

CheckpointStore::CheckpointStore(FileSystem& file_system, std::string directory)
    : file_system_(file_system), directory_(std::move(directory)) {}

std::string CheckpointStore::PathOf(int64_t epoch) const {
  return absl::StrFormat("%s/%s%06d", directory_, kPrefix, epoch);
}

std::string CheckpointStore::LoraFileIn(const std::string& checkpoint_path) {
  return absl::StrCat(checkpoint_path, "/", kLoraName);
}

absl::Status CheckpointStore::Open() {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, directory_));
  return RemoveTemporaries(file_system_, directory_);
}

absl::StatusOr<std::vector<int64_t>> CheckpointStore::Epochs() const {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system_.List(directory_));
  std::vector<int64_t> epochs;
  for (const std::string& name : names) {
    const int64_t epoch = EpochOf(name);
    if (epoch >= 0 && absl::StrCat(directory_, "/", name) == PathOf(epoch)) epochs.push_back(epoch);
  }
  std::sort(epochs.begin(), epochs.end());
  return epochs;
}

absl::StatusOr<v1::Checkpoint> CheckpointStore::Load(int64_t epoch) const {
  const std::string path = PathOf(epoch);
  const absl::StatusOr<std::string> manifest_json =
      file_system_.Read(absl::StrCat(path, "/", kManifestName));
  if (!manifest_json.ok()) return Annotate(manifest_json.status(), path);
  const absl::StatusOr<Manifest> manifest = Manifest::FromJson(*manifest_json);
  if (!manifest.ok()) return Annotate(manifest.status(), path);
  if (manifest->epoch != epoch) {
    return absl::DataLossError(absl::StrCat(path, ": MANIFEST is that of epoch ", manifest->epoch));
  }
  v1::Checkpoint checkpoint;
  checkpoint.set_epoch(epoch);
  std::vector<std::pair<const char*, std::string*>> files = {
      {kLoraName, checkpoint.mutable_lora()},
      {kOptimizerName, checkpoint.mutable_optimizer()},
      {kStateName, checkpoint.mutable_state()}};
  if (manifest->files.contains(kEmaLoraName)) {
    files.emplace_back(kEmaLoraName, checkpoint.mutable_ema_lora());
  }
  for (const auto& [name, bytes] : files) {
    absl::StatusOr<std::string> read = file_system_.Read(absl::StrCat(path, "/", name));
    if (!read.ok()) return Annotate(read.status(), path);
    if (const absl::Status status = manifest->Check(name, *read); !status.ok())
      return Annotate(status, path);
    *bytes = *std::move(read);
  }
  return checkpoint;
}

absl::StatusOr<std::string> CheckpointStore::Save(const v1::Checkpoint& checkpoint) {
  const int64_t epoch = checkpoint.epoch();
  if (epoch < 0) return absl::InvalidArgumentError(absl::StrCat("a checkpoint of epoch ", epoch));
  const std::string path = PathOf(epoch);

  IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists, file_system_.Exists(path));
  if (exists) {
    const absl::StatusOr<v1::Checkpoint> old = Load(epoch);
    if (old.ok() && SameContent(*old, checkpoint)) {
      known_complete_.insert(epoch);
      return path;
    }
  }
  known_complete_.erase(epoch);

  const auto write = [&]() -> absl::Status {
    IMAGEDDPO_ASSIGN_OR_RETURN(AtomicDirectory directory,
                               AtomicDirectory::Create(file_system_, path));
    Manifest manifest;
    manifest.epoch = epoch;
    std::vector<std::pair<const char*, std::string_view>> files = {
        {kLoraName, checkpoint.lora()},
        {kOptimizerName, checkpoint.optimizer()},
        {kStateName, checkpoint.state()}};
    if (!checkpoint.ema_lora().empty()) files.emplace_back(kEmaLoraName, checkpoint.ema_lora());
    for (const auto& [name, bytes] : files) {
      IMAGEDDPO_RETURN_IF_ERROR(directory.Write(name, bytes));
      manifest.Add(name, bytes);
    }
    IMAGEDDPO_RETURN_IF_ERROR(directory.Write(kManifestName, manifest.ToJson()));
    return exists ? directory.CommitReplacing() : directory.Commit();
  };
  if (const absl::Status status = write(); !status.ok()) {
    return Annotate(status,
                    absl::StrCat("the checkpoint of epoch ", epoch, " could not be written"));
  }
  known_complete_.insert(epoch);
  return path;
}

absl::StatusOr<CheckpointStore::Found> CheckpointStore::Newest() {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<int64_t> epochs, Epochs());
  Found found;
  for (auto epoch = epochs.rbegin(); epoch != epochs.rend(); ++epoch) {
    absl::StatusOr<v1::Checkpoint> checkpoint = Load(*epoch);
    if (checkpoint.ok()) {
      known_complete_.insert(*epoch);
      found.path = PathOf(*epoch);
      found.checkpoint = *std::move(checkpoint);
      break;
    }
    known_complete_.erase(*epoch);
    found.warnings.push_back(
        absl::StrCat("the checkpoint of epoch ", *epoch,
                     " is damaged and was passed over: ", checkpoint.status().message()));
  }
  return found;
}

absl::Status CheckpointStore::Prune(int64_t keep) {
  if (keep <= 0) return absl::OkStatus();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<int64_t> epochs, Epochs());
  int64_t kept = 0;
  std::vector<int64_t> old;
  for (auto epoch = epochs.rbegin(); epoch != epochs.rend(); ++epoch) {
    if (kept == keep) {
      old.push_back(*epoch);
    } else if (known_complete_.contains(*epoch) || Load(*epoch).ok()) {
      known_complete_.insert(*epoch);
      ++kept;
    }
  }
  for (const int64_t epoch : old) {
    // First renamed in one step, so that a crash does not leave half a checkpoint behind.
    const std::string hidden = absl::StrCat(directory_, "/.", kPrefix, epoch, ".tmp-pruned");
    IMAGEDDPO_RETURN_IF_ERROR(file_system_.RemoveAll(hidden));
    IMAGEDDPO_RETURN_IF_ERROR(file_system_.Rename(PathOf(epoch), hidden));
    known_complete_.erase(epoch);
    IMAGEDDPO_RETURN_IF_ERROR(file_system_.RemoveAll(hidden));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

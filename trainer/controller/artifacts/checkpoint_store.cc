#include "trainer/controller/artifacts/checkpoint_store.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/io/file.h"
#include "trainer/controller/artifacts/manifest.h"

namespace imageddpo {
namespace {

constexpr char kLoraName[] = "pytorch_lora_weights.safetensors";
constexpr char kOptimizerName[] = "optimizer.safetensors";
constexpr char kStateName[] = "state.json";
constexpr char kEmaLoraName[] = "lora_ema.safetensors";  // Only of jobs with an average.
constexpr char kPrefix[] = "epoch-";
constexpr char kBestPrefix[] = "best-epoch-";
constexpr char kBestName[] = "best.json";

/// The epoch of a directory's name; -1 for other names.
int64_t EpochOf(absl::string_view name) {
  int64_t epoch = -1;
  if (!absl::ConsumePrefix(&name, kPrefix) || name.empty() || !absl::SimpleAtoi(name, &epoch))
    return -1;
  return epoch;
}

/// Whether the content is wrong, which another try does not change. Any other error says only that
/// it could not be read.
bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsUnimplemented(status) || absl::IsNotFound(status) ||
         absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status);
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

  std::vector<File> files = {{kLoraName, checkpoint.lora()},
                             {kOptimizerName, checkpoint.optimizer()},
                             {kStateName, checkpoint.state()}};
  if (!checkpoint.ema_lora().empty()) files.emplace_back(kEmaLoraName, checkpoint.ema_lora());
  if (const absl::Status status = WriteWhole(path, epoch, files); !status.ok()) {
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
    if (!IsDamage(checkpoint.status())) return checkpoint.status();
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
      continue;
    }
    if (!known_complete_.contains(*epoch)) {
      const absl::Status status = Load(*epoch).status();
      if (!status.ok() && IsDamage(status)) continue;
      IMAGEDDPO_RETURN_IF_ERROR(status);
      known_complete_.insert(*epoch);
    }
    ++kept;
  }
  for (const int64_t epoch : old) IMAGEDDPO_RETURN_IF_ERROR(Remove(epoch));
  return absl::OkStatus();
}

absl::Status CheckpointStore::Remove(int64_t epoch) {
  known_complete_.erase(epoch);
  return RemoveWhole(PathOf(epoch));
}

absl::StatusOr<v1::Checkpoint> CheckpointStore::Get(int64_t epoch) const {
  absl::StatusOr<v1::Checkpoint> checkpoint = Load(epoch);
  if (checkpoint.ok()) return checkpoint;
  if (!IsDamage(checkpoint.status())) return checkpoint.status();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<int64_t> epochs, Epochs());
  std::vector<int64_t> complete;
  for (const int64_t other : epochs) {
    if (Load(other).ok()) complete.push_back(other);
  }
  const bool exists = std::find(epochs.begin(), epochs.end(), epoch) != epochs.end();
  const std::string epochs_that_there_are = absl::StrJoin(complete, ", ");
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          exists ? absl::StrCat("the checkpoint of epoch ", epoch,
                                " is damaged: ", checkpoint.status().message())
                 : absl::StrCat("there is no checkpoint of epoch ", epoch),
          complete.empty()
              ? "; there is none at all: leave the epoch out to start anew"
              : absl::StrCat("; choose one of those that there are: ", epochs_that_there_are))),
      Reason::kNoCheckpoint, {{"epochs", epochs_that_there_are}});
}

absl::Status CheckpointStore::GoBackTo(int64_t epoch) {
  IMAGEDDPO_RETURN_IF_ERROR(Get(epoch).status());
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<int64_t> epochs, Epochs());
  for (auto later = epochs.rbegin(); later != epochs.rend() && *later > epoch; ++later) {
    IMAGEDDPO_RETURN_IF_ERROR(Remove(*later));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> CheckpointStore::GoBackToAtMost(int64_t most) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<int64_t> epochs, Epochs());
  if (epochs.empty()) return 0;
  for (auto epoch = epochs.rbegin(); epoch != epochs.rend(); ++epoch) {
    if (*epoch > most) continue;
    const absl::Status status = Load(*epoch).status();
    if (!status.ok() && IsDamage(status)) continue;
    IMAGEDDPO_RETURN_IF_ERROR(status);
    IMAGEDDPO_RETURN_IF_ERROR(GoBackTo(*epoch));
    return *epoch;
  }
  return absl::NotFoundError(
      absl::StrCat("there is no complete checkpoint of at most ", most, " epochs"));
}

absl::Status CheckpointStore::WriteWhole(const std::string& path, int64_t epoch,
                                         const std::vector<File>& files) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool exists, file_system_.Exists(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(AtomicDirectory directory,
                             AtomicDirectory::Create(file_system_, path));
  Manifest manifest;
  manifest.epoch = epoch;
  for (const auto& [name, bytes] : files) {
    IMAGEDDPO_RETURN_IF_ERROR(directory.Write(name, bytes));
    manifest.Add(name, bytes);
  }
  IMAGEDDPO_RETURN_IF_ERROR(directory.Write(kManifestName, manifest.ToJson()));
  return exists ? directory.CommitReplacing() : directory.Commit();
}

absl::Status CheckpointStore::RemoveWhole(const std::string& path) {
  // First renamed in one step.
  const std::string hidden =
      absl::StrCat(directory_, "/.", path.substr(path.rfind('/') + 1), ".tmp-pruned");
  IMAGEDDPO_RETURN_IF_ERROR(file_system_.RemoveAll(hidden));
  IMAGEDDPO_RETURN_IF_ERROR(file_system_.Rename(path, hidden));
  return file_system_.RemoveAll(hidden);
}

bool CheckpointStore::IsBetter(double value, const std::optional<Best>& best, BestMode mode) {
  if (!std::isfinite(value)) return false;
  if (!best.has_value()) return true;
  return mode == BestMode::kMax ? value > best->value : value < best->value;
}

std::string CheckpointStore::BestPathOf(int64_t epoch) const {
  return absl::StrFormat("%s/%s%06d", directory_, kBestPrefix, epoch);
}

std::string CheckpointStore::BestLoraFile(int64_t epoch) const {
  return LoraFileIn(BestPathOf(epoch));
}

absl::StatusOr<std::string> CheckpointStore::SaveBest(const Best& best, std::string_view lora) {
  const std::string path = BestPathOf(best.epoch);
  const nlohmann::ordered_json json = {{"epoch", best.epoch}, {"value", best.value}};
  const std::string text = json.dump() + "\n";
  const absl::Status status = WriteWhole(path, best.epoch, {{kLoraName, lora}, {kBestName, text}});
  if (!status.ok()) {
    return Annotate(status, absl::StrCat("the LoRA of the best evaluation, after ", best.epoch,
                                         " epochs, could not be written"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system_.List(directory_));
  for (const std::string& name : names) {
    const std::string other = absl::StrCat(directory_, "/", name);
    if (absl::StartsWith(name, kBestPrefix) && other != path) {
      IMAGEDDPO_RETURN_IF_ERROR(RemoveWhole(other));
    }
  }
  return BestLoraFile(best.epoch);
}

absl::StatusOr<CheckpointStore::Best> CheckpointStore::ReadBest(const std::string& path) const {
  const auto read = [&](const char* name) {
    return file_system_.Read(absl::StrCat(path, "/", name));
  };
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string manifest_json, read(kManifestName));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Manifest manifest, Manifest::FromJson(manifest_json));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string lora, read(kLoraName));
  IMAGEDDPO_RETURN_IF_ERROR(manifest.Check(kLoraName, lora));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, read(kBestName));
  IMAGEDDPO_RETURN_IF_ERROR(manifest.Check(kBestName, text));
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("value") || !json["value"].is_number() ||
      path != BestPathOf(manifest.epoch)) {
    return absl::DataLossError(absl::StrCat(kBestName, " is not of this directory"));
  }
  return Best{.epoch = manifest.epoch, .value = json["value"].get<double>()};
}

absl::StatusOr<std::optional<CheckpointStore::Best>> CheckpointStore::LoadBest(
    BestMode mode, std::vector<std::string>* warnings) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system_.List(directory_));
  std::optional<Best> found;
  for (const std::string& name : names) {  // In the order of their epochs.
    if (!absl::StartsWith(name, kBestPrefix)) continue;
    const absl::StatusOr<Best> best = ReadBest(absl::StrCat(directory_, "/", name));
    if (!best.ok()) {
      if (!IsDamage(best.status())) return best.status();
      warnings->push_back(
          absl::StrCat("the LoRA of the best evaluation in ", name,
                       " is damaged and was passed over: ", best.status().message()));
    } else if (IsBetter(best->value, found, mode)) {
      found = *best;
    }
  }
  return found;
}

}  // namespace imageddpo

#include "trainer/controller/files/job_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/io/file_system.h"
#include "trainer/controller/artifacts/checkpoint_store.h"
#include "trainer/controller/artifacts/manifest.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxPageSize = 1000;

struct FileState {
  int64_t size_bytes = 0;
  google::protobuf::Timestamp write_time;
};

/// Not set: it is no regular file, or there is none any more. Links are not followed.
std::optional<FileState> StateOf(const fs::path& path) {
  struct stat found = {};
  if (::lstat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode)) return std::nullopt;
  FileState state;
  state.size_bytes = static_cast<int64_t>(found.st_size);
  state.write_time.set_seconds(static_cast<int64_t>(found.st_mtim.tv_sec));
  state.write_time.set_nanos(static_cast<int32_t>(found.st_mtim.tv_nsec));
  return state;
}

/// The files below a folder by their names in it, sorted; those in hidden folders and hidden files,
/// which are being written or removed, only if `hidden`.
std::map<std::string, FileState> FilesBelow(const fs::path& folder, bool hidden) {
  std::map<std::string, FileState> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  while (!error && entry != fs::recursive_directory_iterator()) {
    const bool is_hidden = absl::StartsWith(entry->path().filename().string(), ".");
    if (is_hidden && !hidden) {
      entry.disable_recursion_pending();
    } else if (const std::optional<FileState> state = StateOf(entry->path()); state.has_value()) {
      files[entry->path().lexically_relative(folder).string()] = *state;
    }
    entry.increment(error);
  }
  return files;
}

/// Whether the MANIFEST lists files that are there, with these sizes.
bool IsComplete(const fs::path& folder, int64_t epoch,
                const std::map<std::string, FileState>& files) {
  std::ifstream stream(folder / kManifestName, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)),
                         std::istreambuf_iterator<char>());
  const absl::StatusOr<Manifest> manifest = Manifest::FromJson(text);
  if (!manifest.ok() || manifest->epoch != epoch) return false;
  return std::all_of(manifest->files.begin(), manifest->files.end(), [&](const auto& listed) {
    const auto file = files.find(listed.first);
    return file != files.end() &&
           file->second.size_bytes == static_cast<int64_t>(listed.second.size_bytes);
  });
}

}  // namespace

absl::StatusOr<v1::ListCheckpointsResponse> ListCheckpoints(const JobStore& store,
                                                            const std::string& job_id) {
  IMAGEDDPO_RETURN_IF_ERROR(store.Get(job_id).status());
  PosixFileSystem disk;
  const CheckpointStore checkpoints(disk, absl::StrCat(store.JobDir(job_id), "/checkpoints"));
  v1::ListCheckpointsResponse response;
  const absl::StatusOr<std::vector<int64_t>> epochs = checkpoints.Epochs();
  if (absl::IsNotFound(epochs.status())) return response;
  IMAGEDDPO_RETURN_IF_ERROR(epochs.status());
  for (const int64_t epoch : *epochs) {
    const std::string path = checkpoints.PathOf(epoch);
    const std::map<std::string, FileState> files = FilesBelow(path, /*hidden=*/false);
    v1::CheckpointFolder& checkpoint = *response.add_checkpoints();
    checkpoint.set_epoch(epoch);
    checkpoint.set_path(path);
    for (const auto& [name, state] : files) {
      checkpoint.set_size_bytes(checkpoint.size_bytes() + state.size_bytes);
      if (name == kManifestName) *checkpoint.mutable_write_time() = state.write_time;
    }
    checkpoint.set_complete(IsComplete(path, epoch, files));
  }
  return response;
}

absl::StatusOr<v1::ListArtifactsResponse> ListArtifacts(const JobStore& store,
                                                        const v1::ListArtifactsRequest& request) {
  if (request.page_size() < 0) {
    return InvalidField("page_size",
                        absl::StrCat("is ", request.page_size(), "; it must not be negative"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(store.Get(request.id()).status());
  const int page_size =
      request.page_size() == 0 ? kMaxPageSize : std::min(request.page_size(), kMaxPageSize);
  const auto files = FilesBelow(store.JobDir(request.id()), /*hidden=*/false);
  v1::ListArtifactsResponse response;
  for (auto file = files.upper_bound(request.page_token()); file != files.end(); ++file) {
    if (response.artifacts_size() == page_size) {
      response.set_next_page_token(response.artifacts(page_size - 1).name());
      break;
    }
    v1::Artifact& artifact = *response.add_artifacts();
    artifact.set_name(file->first);
    artifact.set_size_bytes(file->second.size_bytes);
    *artifact.mutable_write_time() = file->second.write_time;
  }
  return response;
}

std::vector<std::string> ArtifactNamesIn(const JobStore& store, const std::string& job_id,
                                         const std::string& folder) {
  const fs::path path = fs::path(store.JobDir(job_id)) / folder;
  std::error_code error;
  if (fs::is_symlink(path, error)) return {};
  std::vector<std::string> names;
  for (const auto& [name, state] : FilesBelow(path, /*hidden=*/false)) {
    names.push_back(absl::StrCat(folder, "/", name));
  }
  return names;
}

int64_t BytesBelow(const std::string& folder) {
  int64_t bytes = 0;
  for (const auto& [name, state] : FilesBelow(folder, /*hidden=*/true)) bytes += state.size_bytes;
  return bytes;
}

absl::StatusOr<v1::DeleteJobResponse> RemoveDeletedFolder(const JobStore& store,
                                                          const std::string& job_id) {
  const std::string folder = store.DeletedDir(job_id);
  v1::DeleteJobResponse freed;
  for (const auto& [name, state] : FilesBelow(folder, /*hidden=*/true)) {
    freed.set_freed_bytes(freed.freed_bytes() + state.size_bytes);
    freed.set_num_files(freed.num_files() + 1);
  }
  std::error_code error;
  fs::remove_all(folder, error);
  if (!error) return freed;
  return absl::ErrnoToStatus(
      error.value(),
      absl::StrCat(job_id, " is deleted, but not all of its files could be removed: ", folder,
                   "; the service tries it again at its next start"));
}

void RemoveDeletedFolders(const JobStore& store) {
  std::vector<fs::path> deleted;
  std::error_code error;
  fs::directory_iterator entry(fs::path(store.data_dir()) / "jobs", error);
  while (!error && entry != fs::directory_iterator()) {
    const std::string name = entry->path().filename().string();
    if (absl::StartsWith(name, ".") && absl::EndsWith(name, ".deleted")) {
      deleted.push_back(entry->path());
    }
    entry.increment(error);
  }
  for (const fs::path& path : deleted) fs::remove_all(path, error);
}

}  // namespace imageddpo

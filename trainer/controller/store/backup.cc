#include "trainer/controller/store/backup.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/file.h"
#include "common/io/sha256.h"
#include "trainer/controller/store/data_dir_lock.h"
#include "trainer/controller/store/job_store_schema.h"
#include "trainer/controller/store/sqlite.h"

namespace imageddpo {
namespace {

namespace fs = std::filesystem;

constexpr char kDatabase[] = "jobs.db";
constexpr char kJobs[] = "jobs";
constexpr char kList[] = "backup.json";
constexpr int kBackupVersion = 1;
constexpr int kTries = 3;  // A service may remove old checkpoints meanwhile.
constexpr size_t kNewestCheckpoints = 2;

absl::Status DiskError(const std::error_code& error, const std::string& what) {
  return absl::ErrnoToStatus(error.value(), what);
}

/// Whether a file is written once, whole, and never changed.
bool IsFixed(const std::string& name) {
  return absl::StartsWith(name, "checkpoints/") || absl::StartsWith(name, "samples/");
}

/// The files of a job's folder by their names in it, sorted; hidden ones are being written.
std::vector<std::string> FilesOf(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  while (!error && entry != fs::recursive_directory_iterator()) {
    std::error_code ignored;
    if (absl::StartsWith(entry->path().filename().string(), ".")) {
      entry.disable_recursion_pending();
    } else if (entry->symlink_status(ignored).type() == fs::file_type::regular) {
      names.push_back(entry->path().lexically_relative(folder).string());
    }
    entry.increment(error);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Leaves out pictures and all but the newest checkpoints; the best ones have names of their own.
std::vector<std::string> NewestOf(const std::vector<std::string>& names) {
  constexpr char kEpoch[] = "checkpoints/epoch-";
  std::vector<std::string> epochs;  // Folders, the oldest first.
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, kEpoch)) continue;
    const std::string folder = fs::path(name).parent_path().string();
    if (epochs.empty() || epochs.back() != folder) epochs.push_back(folder);
  }
  const size_t first = epochs.size() - std::min(epochs.size(), kNewestCheckpoints);
  std::vector<std::string> newest;
  for (const std::string& name : names) {
    if (absl::StartsWith(name, "samples/") || absl::EndsWith(name, ".png")) continue;
    const bool is_old = absl::StartsWith(name, kEpoch) &&
                        std::find(epochs.begin() + static_cast<std::ptrdiff_t>(first), epochs.end(),
                                  fs::path(name).parent_path().string()) == epochs.end();
    if (!is_old) newest.push_back(name);
  }
  return newest;
}

absl::Status CopyOne(const fs::path& from, const fs::path& to, bool may_link) {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(to.parent_path().string()));
  std::error_code error;
  if (may_link) {
    fs::create_hard_link(from, to, error);
    if (!error) return absl::OkStatus();
  }
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (!error) return absl::OkStatus();
  return DiskError(error, absl::StrCat(from.string(), " cannot be copied to ", to.string()));
}

absl::Status CopyJob(const fs::path& from, const fs::path& to, BackupFiles files) {
  absl::Status status;
  for (int i = 0; i < kTries; ++i) {
    std::error_code ignored;
    fs::remove_all(to, ignored);
    const std::vector<std::string> all = FilesOf(from);
    status = absl::OkStatus();
    for (const std::string& name : files == BackupFiles::kAll ? all : NewestOf(all)) {
      status = CopyOne(from / name, to / name, IsFixed(name));
      if (!status.ok()) break;
    }
    if (!absl::IsNotFound(status)) return status;  // Otherwise it was removed meanwhile.
  }
  return status;
}

bool HasEntries(const std::string& folder) {
  std::error_code error;
  const fs::directory_iterator first(folder, error);
  return !error && first != fs::directory_iterator();
}

absl::StatusOr<BackupReport> WriteList(const std::string& target) {
  nlohmann::ordered_json listed = nlohmann::ordered_json::object();
  BackupReport report;
  for (const std::string& name : FilesOf(target)) {
    std::error_code error;
    const auto size = static_cast<int64_t>(fs::file_size(fs::path(target) / name, error));
    if (error) return DiskError(error, absl::StrCat(target, "/", name));
    listed[name] = size;
    ++report.num_files;
    report.size_bytes += size;
  }
  const std::string database = absl::StrCat(target, "/", kDatabase);
  IMAGEDDPO_RETURN_IF_ERROR(SyncFile(database));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string sha256, FileSha256(database));
  const nlohmann::ordered_json list = {
      {"version", kBackupVersion}, {"jobs_db_sha256", sha256}, {"files", listed}};
  IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(
      absl::StrCat(target, "/", kList),
      list.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  return report;
}

/// The names and sizes of a backup's files, all of which are there.
absl::StatusOr<std::map<std::string, int64_t>> ReadList(const std::string& backup) {
  const std::string path = absl::StrCat(backup, "/", kList);
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostListFileBytes));
  const auto list = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_object() || !list.contains("files") || !list["files"].is_object() ||
      !list.contains("jobs_db_sha256") || !list["jobs_db_sha256"].is_string()) {
    return absl::DataLossError(absl::StrCat(path, " is not the list of a backup"));
  }
  if (!list.contains("version") || list["version"] != kBackupVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " has another version than this program reads, ", kBackupVersion));
  }
  std::map<std::string, int64_t> files;
  for (const auto& [name, size] : list["files"].items()) {
    const fs::path relative(name);
    const bool leaves = relative.is_absolute() ||
                        std::find(relative.begin(), relative.end(), "..") != relative.end();
    std::error_code error;
    const auto found = fs::file_size(fs::path(backup) / relative, error);
    if (leaves || error || !size.is_number_integer() ||
        found != static_cast<uintmax_t>(size.get<int64_t>())) {
      return absl::DataLossError(absl::StrCat(
          backup, "/", name, " is missing or has another size than when the backup was made"));
    }
    files[name] = size.get<int64_t>();
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string sha256,
                             FileSha256(absl::StrCat(backup, "/", kDatabase)));
  if (sha256 != list["jobs_db_sha256"].get<std::string>()) {
    return absl::DataLossError(
        absl::StrCat(backup, "/", kDatabase, " has changed since the backup was made"));
  }
  return files;
}

absl::Status CheckDatabase(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<SqliteDatabase> database,
                             SqliteDatabase::Open(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement check, database->Prepare("PRAGMA integrity_check"));
  IMAGEDDPO_RETURN_IF_ERROR(check.Run());
  if (check.Text(0) != "ok") return absl::DataLossError(absl::StrCat(path, ": ", check.Text(0)));
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement version, database->Prepare("PRAGMA user_version"));
  IMAGEDDPO_RETURN_IF_ERROR(version.Run());
  if (version.Int(0) <= JobStoreSchemaVersion()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "a newer version of the service made the backup; restore it with that version");
}

}  // namespace

absl::StatusOr<BackupReport> WriteBackup(const std::string& data_dir, const std::string& snapshot,
                                         const std::string& target, BackupFiles files) {
  if (HasEntries(target)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the folder ", target, " is not empty; name a new one"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(CopyOne(snapshot, fs::path(target) / kDatabase, /*may_link=*/false));
  if (files != BackupFiles::kNone) {
    std::error_code error;
    fs::directory_iterator entry(fs::path(data_dir) / kJobs, error);
    while (!error && entry != fs::directory_iterator()) {
      const std::string id = entry->path().filename().string();
      if (!absl::StartsWith(id, ".")) {
        IMAGEDDPO_RETURN_IF_ERROR(CopyJob(entry->path(), fs::path(target) / kJobs / id, files));
      }
      entry.increment(error);
    }
  }
  return WriteList(target);
}

absl::StatusOr<BackupReport> RestoreBackup(const std::string& backup, const std::string& data_dir) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto files, ReadList(backup));
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(data_dir));
  IMAGEDDPO_ASSIGN_OR_RETURN(const DataDirLock lock, DataDirLock::Acquire(data_dir));
  std::error_code error;
  const fs::path database = fs::path(data_dir) / kDatabase;
  if (fs::exists(database, error) || HasEntries(absl::StrCat(data_dir, "/", kJobs))) {
    return absl::FailedPreconditionError(absl::StrCat(
        data_dir, " has jobs already; move its jobs.db and jobs/ away, or name another data_dir"));
  }
  BackupReport report;
  const std::string restoring = database.string() + ".restoring";
  for (const auto& [name, size] : files) {
    const fs::path to = name == kDatabase ? fs::path(restoring) : fs::path(data_dir) / name;
    // Never links: what a job writes must not reach the backup.
    IMAGEDDPO_RETURN_IF_ERROR(CopyOne(fs::path(backup) / name, to, /*may_link=*/false));
    ++report.num_files;
    report.size_bytes += size;
  }
  IMAGEDDPO_RETURN_IF_ERROR(CheckDatabase(restoring));
  IMAGEDDPO_RETURN_IF_ERROR(SyncFile(restoring));
  fs::rename(restoring, database, error);  // Last: without it there is no job.
  if (error) return DiskError(error, database.string());
  return report;
}

}  // namespace imageddpo

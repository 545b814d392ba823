// JobStore: what the service keeps beside jobs, and what it removes of those that have ended.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {
namespace {

constexpr int64_t kJobsAtOnce = 200;
constexpr int64_t kEventsAtOnce = 1000;
constexpr char kSnapshotPrefix[] = "jobs.db.backup-";
constexpr std::chrono::hours kSnapshotLife{1};  // While it is copied.

}  // namespace

absl::StatusOr<std::vector<JobStore::Ended>> JobStore::EndedJobs() const {
  std::vector<Ended> ended;
  int64_t last_number = 0;
  for (bool more = true; more;) {  // Others get the store between two parts.
    const absl::MutexLock lock(&mutex_);
    IMAGEDDPO_ASSIGN_OR_RETURN(
        SqliteStatement statement,
        database_->Prepare(
            "SELECT id, end_time_ms, (SELECT COUNT(*) FROM events WHERE job_number = jobs.number "
            "AND events.number < last_event), number FROM jobs WHERE number > ?1 AND state IN "
            "('SUCCEEDED', 'FAILED', 'CANCELLED') ORDER BY number LIMIT ?2"));
    statement.Bind(1, last_number).Bind(2, kJobsAtOnce);
    int64_t count = 0;
    for (;; ++count) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
      if (!row) break;
      ended.push_back(
          {statement.Text(0), static_cast<double>(statement.Int(1)) / 1000, statement.Int(2)});
      last_number = statement.Int(3);
    }
    more = count == kJobsAtOnce;
  }
  std::stable_sort(ended.begin(), ended.end(),
                   [](const Ended& a, const Ended& b) { return a.end_s < b.end_s; });
  return ended;
}

absl::Status JobStore::RemoveEvents(const std::string& id) {
  for (;;) {  // As above; a job that is resumed meanwhile keeps what is left.
    const absl::MutexLock lock(&mutex_);
    int64_t job_number = 0, first = 0, last = 0;
    {
      IMAGEDDPO_ASSIGN_OR_RETURN(
          SqliteStatement job,
          database_->Prepare(
              "SELECT number, last_event, (SELECT MIN(number) FROM events WHERE job_number = "
              "jobs.number) FROM jobs WHERE id = ?1 AND state IN ('SUCCEEDED', 'FAILED', "
              "'CANCELLED')"));
      IMAGEDDPO_ASSIGN_OR_RETURN(const bool has_ended, job.Bind(1, id).Step());
      if (!has_ended) return absl::OkStatus();
      job_number = job.Int(0);
      last = job.Int(1);
      first = job.Int(2);  // 0: it has no events.
    }
    if (first == 0 || first >= last) return absl::OkStatus();
    IMAGEDDPO_ASSIGN_OR_RETURN(
        SqliteStatement statement,
        database_->Prepare("DELETE FROM events WHERE job_number = ?1 AND number < ?2"));
    statement.Bind(1, job_number).Bind(2, std::min(last, first + kEventsAtOnce));
    IMAGEDDPO_RETURN_IF_ERROR(statement.Run());
  }
}

absl::StatusOr<std::map<std::string, std::string>> JobStore::Owners() const {
  std::map<std::string, std::string> owners;
  int64_t last_number = 0;
  for (bool more = true; more;) {  // As above.
    const absl::MutexLock lock(&mutex_);
    IMAGEDDPO_ASSIGN_OR_RETURN(
        SqliteStatement statement,
        database_->Prepare(
            "SELECT number, id, owner FROM jobs WHERE number > ?1 ORDER BY number LIMIT ?2"));
    statement.Bind(1, last_number).Bind(2, kJobsAtOnce);
    int64_t count = 0;
    for (;; ++count) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
      if (!row) break;
      last_number = statement.Int(0);
      owners[statement.Text(1)] = statement.Text(2);
    }
    more = count == kJobsAtOnce;
  }
  return owners;
}

absl::StatusOr<std::vector<OwnerUsage>> JobStore::OwnersUsage() const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare("SELECT owner, rank_seconds, at_s FROM owner_usage ORDER BY owner"));
  std::vector<OwnerUsage> usage;
  for (;;) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return usage;
    usage.push_back({statement.Text(0), statement.Real(1), statement.Real(2)});
  }
}

absl::Status JobStore::SetOwnersUsage(absl::Span<const OwnerUsage> usage) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  IMAGEDDPO_RETURN_IF_ERROR(database_->Execute("DELETE FROM owner_usage"));
  for (const OwnerUsage& of_owner : usage) {
    IMAGEDDPO_ASSIGN_OR_RETURN(
        SqliteStatement statement,
        database_->Prepare(
            "INSERT INTO owner_usage (owner, rank_seconds, at_s) VALUES (?1, ?2, ?3)"));
    statement.Bind(1, of_owner.owner).BindReal(2, of_owner.rank_seconds).BindReal(3, of_owner.at_s);
    IMAGEDDPO_RETURN_IF_ERROR(statement.Run());
  }
  return transaction.Commit();
}

absl::StatusOr<std::set<std::string>> JobStore::Drains() const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement,
                             database_->Prepare("SELECT value FROM service WHERE key = 'drains'"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) return std::set<std::string>();
  const std::string text = statement.Text(0);
  return std::set<std::string>(absl::StrSplit(text, '\n', absl::SkipEmpty()));
}

absl::Status JobStore::SetDrains(const std::set<std::string>& drains) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare("INSERT OR REPLACE INTO service (key, value) VALUES ('drains', ?1)"));
  return statement.Bind(1, absl::StrJoin(drains, "\n")).Run();
}

absl::StatusOr<std::string> JobStore::BackUp() {
  std::error_code error;
  const std::string path =
      absl::StrCat(data_dir_, "/", kSnapshotPrefix, ::getpid(), "-", ++num_backups_);
  std::filesystem::remove(path, error);  // SQLite writes new files alone.
  if (error) return absl::ErrnoToStatus(error.value(), path);
  std::optional<SqliteBackup> backup;
  for (bool is_whole = false; !is_whole;) {  // As above.
    const absl::MutexLock lock(&mutex_);
    if (!backup.has_value()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(backup, SqliteBackup::Begin(*database_, path));
    }
    const absl::StatusOr<bool> step = backup->Step();
    if (!step.ok()) {
      backup.reset();
      std::filesystem::remove(path, error);  // The disk may be full.
      return step.status();
    }
    is_whole = *step;
  }
  return path;
}

void JobStore::RemoveLeftSnapshots() const {
  std::error_code error;
  std::vector<std::filesystem::path> left;
  std::filesystem::directory_iterator entry(data_dir_, error);
  while (!error && entry != std::filesystem::directory_iterator()) {
    std::error_code ignored;
    const auto age =
        std::filesystem::file_time_type::clock::now() - entry->last_write_time(ignored);
    if (!ignored && age > kSnapshotLife &&
        absl::StartsWith(entry->path().filename().string(), kSnapshotPrefix)) {
      left.push_back(entry->path());
    }
    entry.increment(error);
  }
  for (const std::filesystem::path& path : left) std::filesystem::remove(path, error);
}

}  // namespace imageddpo

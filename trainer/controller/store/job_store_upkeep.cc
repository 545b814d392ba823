// JobStore: what the service keeps beside jobs, and what it removes of those that have ended.

#include <filesystem>
#include <optional>
#include <system_error>

#include "common/base/status.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

absl::StatusOr<std::vector<JobStore::Ended>> JobStore::EndedJobs() const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(
          "SELECT id, end_time_ms, (SELECT COUNT(*) FROM events WHERE job_number = jobs.number AND "
          "events.number < last_event) FROM jobs WHERE state IN ('SUCCEEDED', 'FAILED', "
          "'CANCELLED') ORDER BY end_time_ms, jobs.number"));
  std::vector<Ended> ended;
  for (;;) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return ended;
    ended.push_back(
        {statement.Text(0), static_cast<double>(statement.Int(1)) / 1000, statement.Int(2)});
  }
}

absl::Status JobStore::RemoveEvents(const std::string& id) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(
          "DELETE FROM events WHERE job_number = (SELECT number FROM jobs WHERE id = ?1 AND state "
          "IN ('SUCCEEDED', 'FAILED', 'CANCELLED')) AND number < (SELECT last_event FROM jobs "
          "WHERE id = ?1)"));
  return statement.Bind(1, id).Run();
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

absl::Status JobStore::BackUpTo(const std::string& path) {
  std::error_code error;
  std::filesystem::remove(path, error);  // SQLite writes new files alone.
  if (error) return absl::ErrnoToStatus(error.value(), path);
  std::optional<SqliteBackup> backup;
  for (bool is_whole = false; !is_whole;) {  // Others get the store between two parts.
    const absl::MutexLock lock(&mutex_);
    if (!backup.has_value()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(backup, SqliteBackup::Begin(*database_, path));
    }
    IMAGEDDPO_ASSIGN_OR_RETURN(is_whole, backup->Step());
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

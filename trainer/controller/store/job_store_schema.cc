#include "trainer/controller/store/job_store_schema.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

// Step i brings version i to i + 1. Steps that were released are never changed; add one instead.
constexpr auto kSteps = std::to_array<const char*>({
    R"sql(
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  request_id TEXT UNIQUE,
  request_sha256 TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  spec BLOB NOT NULL,
  progress BLOB NOT NULL,
  create_time_ms INTEGER NOT NULL,
  start_time_ms INTEGER NOT NULL,
  end_time_ms INTEGER NOT NULL,
  resume_count INTEGER NOT NULL,
  resumed_from_epoch INTEGER NOT NULL,
  topology TEXT NOT NULL,
  lora_path TEXT NOT NULL,
  warnings TEXT NOT NULL,
  last_event INTEGER NOT NULL,
  epochs_reported INTEGER NOT NULL,
  eval_reported INTEGER NOT NULL,
  checkpoint_reported INTEGER NOT NULL,
  restarts_without_epoch INTEGER NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE events (
  job_number INTEGER NOT NULL REFERENCES jobs (number),
  number INTEGER NOT NULL,
  time_ms INTEGER NOT NULL,
  event BLOB NOT NULL,
  PRIMARY KEY (job_number, number)
) WITHOUT ROWID;
CREATE TABLE service (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
)sql",
    R"sql(
ALTER TABLE jobs ADD COLUMN best_lora_path TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN best_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN best_value REAL NOT NULL DEFAULT 0;
)sql",
    R"sql(
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN topology_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN model_count TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE jobs ADD COLUMN branched_from TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN branched_from_epoch INTEGER NOT NULL DEFAULT 0;
)sql",
    R"sql(
ALTER TABLE jobs ADD COLUMN max_seconds REAL NOT NULL DEFAULT 0;
CREATE TABLE owner_usage (
  owner TEXT PRIMARY KEY,
  rank_seconds REAL NOT NULL,
  at_s REAL NOT NULL
) WITHOUT ROWID;
)sql",
});

absl::StatusOr<int> ReadVersion(SqliteDatabase& database) {
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement, database.Prepare("PRAGMA user_version"));
  IMAGEDDPO_RETURN_IF_ERROR(statement.Run());
  return static_cast<int>(statement.Int(0));
}

}  // namespace

int JobStoreSchemaVersion() { return static_cast<int>(kSteps.size()); }

absl::Status MigrateJobStore(SqliteDatabase& database) {
  IMAGEDDPO_ASSIGN_OR_RETURN(int version, ReadVersion(database));
  if (version > JobStoreSchemaVersion()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "job store ", database.path(), " has version ", version, "; this service reads up to ",
        JobStoreSchemaVersion(), ": start the newer service, or use another data_dir"));
  }
  for (; version < JobStoreSchemaVersion(); ++version) {
    IMAGEDDPO_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(database));
    IMAGEDDPO_RETURN_IF_ERROR(database.Execute(kSteps[version]));
    IMAGEDDPO_RETURN_IF_ERROR(
        database.Execute(absl::StrCat("PRAGMA user_version = ", version + 1)));
    IMAGEDDPO_RETURN_IF_ERROR(transaction.Commit());
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

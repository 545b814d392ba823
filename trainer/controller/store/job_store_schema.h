#pragma once

#include "absl/status/status.h"
#include "trainer/controller/store/sqlite.h"

namespace imageddpo {

/// The newest version that this build knows; kept in the file as PRAGMA user_version.
int JobStoreSchemaVersion();

/// Brings a job store, an empty file too, to the newest version: one transaction a step.
/// @return FAILED_PRECONDITION: the file was written by a newer version of the service.
absl::Status MigrateJobStore(SqliteDatabase& database);

}  // namespace imageddpo

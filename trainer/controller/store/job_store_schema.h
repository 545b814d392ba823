#pragma once

#include "absl/status/status.h"
#include "trainer/controller/store/sqlite.h"

namespace imageddpo {

/// The newest schema version that this build knows; stored in the file as PRAGMA user_version.
int JobStoreSchemaVersion();

/// Migrates a job store, which may be an empty file, to the newest version; one transaction per
/// version.
/// @return FAILED_PRECONDITION: the file was written by a newer version of the service.
absl::Status MigrateJobStore(SqliteDatabase& database);

}  // namespace imageddpo

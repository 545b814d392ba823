#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// A prepared SQL statement. Parameters and columns are numbered as in SQLite: parameters from 1,
/// columns from 0. Thread-compatible; must not outlive its database.
class SqliteStatement {
 public:
  SqliteStatement& Bind(int parameter, int64_t value);
  SqliteStatement& Bind(int parameter, std::string_view text);
  SqliteStatement& BindReal(int parameter, double value);  ///< Finite: SQLite makes NaN NULL.
  SqliteStatement& BindBlob(int parameter, std::string_view bytes);
  SqliteStatement& BindNull(int parameter);

  /// @return true: a row can be read; false: done.
  absl::StatusOr<bool> Step();
  /// Step() for statements that give no rows.
  absl::Status Run();

  int64_t Int(int column) const;
  double Real(int column) const;
  std::string Text(int column) const;  ///< Blobs too; NULL is "".

 private:
  friend class SqliteDatabase;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  explicit SqliteStatement(sqlite3_stmt* statement) : statement_(statement) {}
  SqliteStatement& Note(int result);

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bind_result_ = SQLITE_OK;  // The first error of a Bind; Step() reports it.
};

/// One connection to one SQLite file that only one process uses: exclusive locking (so that WAL
/// needs no shared memory, which network file systems lack) and synchronous=FULL.
/// Thread-compatible.
class SqliteDatabase {
 public:
  /// @return UNAVAILABLE: another process has the file; DATA_LOSS: it is no database or damaged.
  static absl::StatusOr<std::unique_ptr<SqliteDatabase>> Open(const std::string& path);

  ~SqliteDatabase();
  SqliteDatabase(const SqliteDatabase&) = delete;
  SqliteDatabase& operator=(const SqliteDatabase&) = delete;

  /// One or more statements without parameters whose rows do not matter.
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<SqliteStatement> Prepare(std::string_view sql);

  const std::string& path() const { return path_; }

 private:
  friend class SqliteBackup;
  explicit SqliteDatabase(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  sqlite3* connection_ = nullptr;
};

/// A copy of a database in a file of its own, written a part at a time. Between two parts the
/// connection may be used; what it changes is in the copy too. Thread-compatible, with the
/// database.
class SqliteBackup {
 public:
  /// @param path  of a file that is not there.
  static absl::StatusOr<SqliteBackup> Begin(SqliteDatabase& database, const std::string& path);

  /// Copies up to a megabyte. @return true: the copy is whole. After that or an error the object no
  /// longer needs the database.
  absl::StatusOr<bool> Step();

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  struct Finish {
    void operator()(sqlite3_backup* backup) const { sqlite3_backup_finish(backup); }
  };
  SqliteBackup() = default;

  std::unique_ptr<sqlite3, Close> copy_;
  std::unique_ptr<sqlite3_backup, Finish> backup_;  // Before copy_ is closed.
};

/// BEGIN IMMEDIATE now; ROLLBACK at the end of the scope unless Commit() succeeded.
class SqliteTransaction {
 public:
  static absl::StatusOr<SqliteTransaction> Begin(SqliteDatabase& database);
  SqliteTransaction(SqliteTransaction&& other) noexcept;
  SqliteTransaction& operator=(SqliteTransaction&&) = delete;
  ~SqliteTransaction();

  absl::Status Commit();

 private:
  explicit SqliteTransaction(SqliteDatabase& database) : database_(&database) {}
  SqliteDatabase* database_;  // nullptr: nothing to roll back.
};

}  // namespace imageddpo

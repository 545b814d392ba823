#include "trainer/controller/store/sqlite.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr int kBusyTimeoutMs = 2000;
constexpr int kPagesAtOnce = 256;

absl::StatusCode CodeOf(int sqlite_result) {
  switch (sqlite_result & 0xff) {
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kUnavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_CONSTRAINT:
      return absl::StatusCode::kAlreadyExists;
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return absl::StatusCode::kPermissionDenied;
    default:
      return absl::StatusCode::kInternal;
  }
}

const char* RemedyOf(int sqlite_result) {
  switch (sqlite_result & 0xff) {
    case SQLITE_FULL:
      return "; free space on its disk";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "; another program has it open: close that first";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "; move the file away or restore it from a copy";
    default:
      return "";
  }
}

absl::Status ErrorOf(sqlite3* connection, int result) {
  const char* file = sqlite3_db_filename(connection, "main");
  return absl::Status(CodeOf(result), absl::StrCat("job store ", file == nullptr ? "" : file, ": ",
                                                   sqlite3_errmsg(connection), RemedyOf(result)));
}

}  // namespace

SqliteStatement& SqliteStatement::Note(int result) {
  if (bind_result_ == SQLITE_OK) bind_result_ = result;
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int parameter, int64_t value) {
  return Note(sqlite3_bind_int64(statement_.get(), parameter, value));
}

SqliteStatement& SqliteStatement::Bind(int parameter, std::string_view text) {
  return Note(sqlite3_bind_text64(statement_.get(), parameter, text.data(), text.size(),
                                  SQLITE_TRANSIENT, SQLITE_UTF8));
}

SqliteStatement& SqliteStatement::BindReal(int parameter, double value) {
  return Note(sqlite3_bind_double(statement_.get(), parameter, value));
}

SqliteStatement& SqliteStatement::BindBlob(int parameter, std::string_view bytes) {
  return Note(sqlite3_bind_blob64(statement_.get(), parameter, bytes.data(), bytes.size(),
                                  SQLITE_TRANSIENT));
}

SqliteStatement& SqliteStatement::BindNull(int parameter) {
  return Note(sqlite3_bind_null(statement_.get(), parameter));
}

absl::StatusOr<bool> SqliteStatement::Step() {
  const int result = bind_result_ == SQLITE_OK ? sqlite3_step(statement_.get()) : bind_result_;
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return ErrorOf(sqlite3_db_handle(statement_.get()), result);
}

absl::Status SqliteStatement::Run() {
  const absl::StatusOr<bool> row = Step();
  return row.ok() ? absl::OkStatus() : row.status();
}

int64_t SqliteStatement::Int(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

double SqliteStatement::Real(int column) const {
  return sqlite3_column_double(statement_.get(), column);
}

std::string SqliteStatement::Text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

absl::StatusOr<std::unique_ptr<SqliteDatabase>> SqliteDatabase::Open(const std::string& path) {
  std::unique_ptr<SqliteDatabase> database(new SqliteDatabase(path));
  const int result =
      sqlite3_open_v2(path.c_str(), &database->connection_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (result != SQLITE_OK) {
    return absl::Status(
        CodeOf(result),
        absl::StrCat("job store ", path, " cannot be opened: ", sqlite3_errstr(result)));
  }
  sqlite3_busy_timeout(database->connection_, kBusyTimeoutMs);
  // The order matters: exclusive locking must be set before the first access to the file.
  IMAGEDDPO_RETURN_IF_ERROR(
      database->Execute("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL;"
                        "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"));
  // Takes the lock now rather than at the first job.
  IMAGEDDPO_RETURN_IF_ERROR(database->Execute("BEGIN EXCLUSIVE; COMMIT;"));
  return database;
}

SqliteDatabase::~SqliteDatabase() { sqlite3_close_v2(connection_); }

absl::Status SqliteDatabase::Execute(const std::string& sql) {
  const int result = sqlite3_exec(connection_, sql.c_str(), nullptr, nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus() : ErrorOf(connection_, result);
}

absl::StatusOr<SqliteStatement> SqliteDatabase::Prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v2(connection_, sql.data(), static_cast<int>(sql.size()),
                                        &statement, nullptr);
  if (result != SQLITE_OK) return ErrorOf(connection_, result);
  return SqliteStatement(statement);
}

absl::StatusOr<SqliteBackup> SqliteBackup::Begin(SqliteDatabase& database,
                                                 const std::string& path) {
  SqliteBackup backup;
  sqlite3* copy = nullptr;
  const int result =
      sqlite3_open_v2(path.c_str(), &copy,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  backup.copy_.reset(copy);
  if (result != SQLITE_OK) return ErrorOf(copy, result);
  backup.backup_.reset(sqlite3_backup_init(copy, "main", database.connection_, "main"));
  if (backup.backup_ == nullptr) return ErrorOf(copy, sqlite3_errcode(copy));
  return backup;
}

absl::StatusOr<bool> SqliteBackup::Step() {
  const int result = sqlite3_backup_step(backup_.get(), kPagesAtOnce);
  if (result == SQLITE_OK) return false;
  backup_.reset();
  if (result != SQLITE_DONE) return ErrorOf(copy_.get(), result);
  // Whoever opens the copy needs no log beside it.
  const int closed =
      sqlite3_exec(copy_.get(), "PRAGMA journal_mode=DELETE", nullptr, nullptr, nullptr);
  if (closed != SQLITE_OK) return ErrorOf(copy_.get(), closed);
  copy_.reset();
  return true;
}

absl::StatusOr<SqliteTransaction> SqliteTransaction::Begin(SqliteDatabase& database) {
  IMAGEDDPO_RETURN_IF_ERROR(database.Execute("BEGIN IMMEDIATE"));
  return SqliteTransaction(database);
}

SqliteTransaction::SqliteTransaction(SqliteTransaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

SqliteTransaction::~SqliteTransaction() {
  // After some errors SQLite has already rolled back; then ROLLBACK fails, which does not matter.
  if (database_ != nullptr) database_->Execute("ROLLBACK").IgnoreError();
}

absl::Status SqliteTransaction::Commit() {
  IMAGEDDPO_RETURN_IF_ERROR(database_->Execute("COMMIT"));
  database_ = nullptr;
  return absl::OkStatus();
}

}  // namespace imageddpo

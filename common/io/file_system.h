#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// A file being written. Close() reports what the destructor cannot.
class WritableFile {
 public:
  virtual ~WritableFile() = default;  ///< Closes, without syncing.
  virtual absl::Status Append(std::string_view bytes) = 0;
  virtual absl::Status Sync() = 0;  ///< Data and size are on the disk when it returns OK.
  virtual absl::Status Close() = 0;
};

/// The steps from which every write of the project is composed; tests put a faulty one in its place
/// (disk full, crash between two steps). Errors carry the path and the operating system's text;
/// codes follow absl::ErrnoToStatus (ENOENT is NOT_FOUND, ENOSPC is RESOURCE_EXHAUSTED, …). What
/// may pass by itself says so: ErrnoStatus() in common/base/status.h. Implementations are safe to
/// use from several threads.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  /// The whole of a regular file (not a pipe or device).
  virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  /// A new file; ALREADY_EXISTS when there is one.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  /// Appends to a file, created when missing. After an error the file has its old length.
  virtual absl::Status Append(const std::string& path, std::string_view bytes) = 0;
  /// Atomic on one disk; replaces a file, or an empty directory by a directory.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  /// Makes creations, renames and removals inside a directory durable.
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;  ///< One file.
  virtual absl::Status RemoveAll(
      const std::string& path) = 0;  ///< A file or a whole tree; OK when missing.
  virtual absl::Status MakeDirectory(const std::string& path) = 0;
  virtual absl::StatusOr<bool> Exists(const std::string& path) = 0;
  /// Names (not paths) in a directory, sorted by bytes, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
};

/// The real one. Stateless: make one wherever it is needed.
class PosixFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::string> Read(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::Status Append(const std::string& path, std::string_view bytes) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status RemoveAll(const std::string& path) override;
  absl::Status MakeDirectory(const std::string& path) override;
  absl::StatusOr<bool> Exists(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override;
};

}  // namespace imageddpo

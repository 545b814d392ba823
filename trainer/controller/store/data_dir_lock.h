#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// The exclusive right to write below a data directory: a file lock on <data_dir>/lock, which the
/// kernel releases when the process ends, however it ends. The file holds the owner's process id
/// and host.
class DataDirLock {
 public:
  /// @return FAILED_PRECONDITION naming the process that holds it.
  static absl::StatusOr<DataDirLock> Acquire(const std::string& data_dir);

  DataDirLock(DataDirLock&& other) noexcept;
  DataDirLock& operator=(DataDirLock&&) = delete;
  ~DataDirLock();

 private:
  explicit DataDirLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace imageddpo

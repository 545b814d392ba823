#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/status.h"
#include "common/io/file_system.h"

namespace imageddpo {

/// The real disk, except that for paths that contain a text it is full, or gives an I/O error when
/// they are read, as long as it is told so. Thread-safe.
class FullDisk final : public FileSystem {
 public:
  /// Empty: for none.
  void FullFor(const std::string& text) {
    const absl::MutexLock lock(&mutex_);
    full_for_ = text;
  }
  void UnreadableFor(const std::string& text) {
    const absl::MutexLock lock(&mutex_);
    unreadable_for_ = text;
  }

  absl::StatusOr<std::string> Read(const std::string& path) override {
    if (IsUnreadable(path)) return ErrnoStatus(EIO, "cannot read '" + path + "'");
    return real_.Read(path);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    if (IsFull(path)) return NoSpace(path);
    return real_.Create(path);
  }
  absl::Status Append(const std::string& path, std::string_view bytes) override {
    return IsFull(path) ? NoSpace(path) : real_.Append(path, bytes);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return real_.Rename(from, to);
  }
  absl::Status SyncDirectory(const std::string& path) override { return real_.SyncDirectory(path); }
  absl::Status Remove(const std::string& path) override { return real_.Remove(path); }
  absl::Status RemoveAll(const std::string& path) override { return real_.RemoveAll(path); }
  absl::Status MakeDirectory(const std::string& path) override {
    return IsFull(path) ? NoSpace(path) : real_.MakeDirectory(path);
  }
  absl::StatusOr<bool> Exists(const std::string& path) override { return real_.Exists(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return real_.List(path);
  }

 private:
  bool IsFull(const std::string& path) const {
    const absl::MutexLock lock(&mutex_);
    return !full_for_.empty() && path.find(full_for_) != std::string::npos;
  }
  bool IsUnreadable(const std::string& path) const {
    const absl::MutexLock lock(&mutex_);
    return !unreadable_for_.empty() && path.find(unreadable_for_) != std::string::npos;
  }
  static absl::Status NoSpace(const std::string& path) {
    return ErrnoStatus(ENOSPC, "cannot write '" + path + "'");
  }

  PosixFileSystem real_;
  mutable absl::Mutex mutex_;
  std::string full_for_ ABSL_GUARDED_BY(mutex_);
  std::string unreadable_for_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo

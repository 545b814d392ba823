#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace imageddpo {

/// A file of a job's folder, open for reading. Its size is that at the time of Open(): what is
/// appended later is not read. Blocks on the disk. Thread-compatible.
class ArtifactFile {
 public:
  /// @param name  below `job_dir`, as ListArtifacts has it. Symbolic links, hidden files and what
  /// is no regular file are never opened, whatever becomes of the folders meanwhile.
  /// @return INVALID_ARGUMENT: it is no such name; NOT_FOUND: there is no such file.
  static absl::StatusOr<ArtifactFile> Open(const std::string& job_dir, const std::string& name);

  ~ArtifactFile();
  ArtifactFile(ArtifactFile&& other) noexcept;
  ArtifactFile& operator=(ArtifactFile&& other) noexcept;

  int64_t size_bytes() const { return size_bytes_; }
  uint64_t inode() const { return inode_; }  ///< No other file of the folder has it now.

  /// @param offset, count  within size_bytes(). @return exactly `count` bytes; ABORTED: the file
  /// has become shorter.
  absl::StatusOr<std::string> Read(int64_t offset, int64_t count) const;

 private:
  ArtifactFile(int fd, std::string name, int64_t size_bytes, uint64_t inode);

  int fd_;  // -1: moved from.
  std::string name_;
  int64_t size_bytes_;
  uint64_t inode_;
};

}  // namespace imageddpo

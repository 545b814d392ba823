#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// The file of a Unix socket on which a server listens, for the server's user alone (mode 0600) or
/// for a group too (0660). A server binds the socket inside a new folder that nobody else can
/// enter; Publish() gives it its mode and moves it to its place. So others can connect at no
/// moment, and a file that a dead server has left is replaced in one step.
class SocketFile {
 public:
  /// @return UNAVAILABLE: a server listens there; FAILED_PRECONDITION: the file is no socket;
  /// otherwise why the folder could not be made. Each names the path.
  static absl::StatusOr<std::unique_ptr<SocketFile>> Make(const std::string& path);

  /// Removes the folder and, where it still is this one, the socket.
  ~SocketFile();
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;

  /// Where to bind the socket.
  std::string bind_path() const;
  /// Moves the bound socket to its place.
  /// @param group  whose members may connect; empty: nobody else may.
  /// @return INVALID_ARGUMENT: there is no such group; PERMISSION_DENIED: this user is not in it.
  absl::Status Publish(const std::string& group);

 private:
  SocketFile(std::string path, std::string folder);

  const std::string path_;
  const std::string folder_;
  bool published_ = false;
  unsigned long long device_ = 0, inode_ = 0;  // Of the published socket.
};

/// Lets members of a group read a folder, and what is made in it from now on as far as the
/// process's umask allows. @return as SocketFile::Publish().
absl::Status ShareFolder(const std::string& folder, const std::string& group);

}  // namespace imageddpo

#include "trainer/controller/api/socket_file.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr mode_t kOwnerOnly = S_IRUSR | S_IWUSR;
constexpr mode_t kWithGroup = kOwnerOnly | S_IRGRP | S_IWGRP;
constexpr char kSocketName[] = "s";

absl::Status Error(const std::string& what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("`grpc.address`: ", what, " ", path));
}

/// Whether a server accepts connections there. A full queue of connections is one too.
bool IsServed(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool served =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
      errno == EAGAIN;
  ::close(fd);
  return served;
}

absl::Status GiveToGroup(const std::string& path, const std::string& name) {
  std::vector<char> buffer(1 << 16);
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
      found == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("`grpc.group` is `", name, "`, which is no group of this host"));
  }
  if (::chown(path.c_str(), static_cast<uid_t>(-1), entry.gr_gid) != 0) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("`grpc.group`: ", path, " cannot be given to the group ", name,
                            "; is the service's user a member of it?"));
  }
  return absl::OkStatus();
}

/// Removes the folders that killed servers have left beside the socket.
void RemoveLeftFolders(const std::string& path) {
  namespace fs = std::filesystem;
  constexpr size_t kRandom = 6;  // mkdtemp()'s letters.
  const std::string prefix = fs::path(path).filename().string() + ".";
  const fs::path parent = fs::path(path).parent_path();
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(parent.empty() ? "." : parent, error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() != prefix.size() + kRandom || name.rfind(prefix, 0) != 0) continue;
    const std::string socket = (entry.path() / kSocketName).string();
    struct stat status {};
    if (::lstat(socket.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && !IsServed(socket)) {
      ::unlink(socket.c_str());
    }
    ::rmdir(entry.path().c_str());  // Only an empty folder goes.
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<SocketFile>> SocketFile::Make(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat("`grpc.address`: ", path, " exists and is no socket; choose another path"));
    }
    if (IsServed(path)) {
      return absl::UnavailableError(
          absl::StrCat("`grpc.address`: ", path,
                       " is in use by another program (another imageddpod?); end that one, or "
                       "choose another path in cluster.yaml"));
    }
  }
  RemoveLeftFolders(path);
  std::string folder = path + ".XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    return Error("cannot make a socket in the folder of", path);
  }
  return std::unique_ptr<SocketFile>(new SocketFile(path, std::move(folder)));
}

std::string SocketFile::bind_path() const { return absl::StrCat(folder_, "/", kSocketName); }

SocketFile::SocketFile(std::string path, std::string folder)
    : path_(std::move(path)), folder_(std::move(folder)) {}

absl::Status SocketFile::Publish(const std::string& group) {
  const std::string bound = bind_path();
  struct stat status {};
  if (!group.empty()) IMAGEDDPO_RETURN_IF_ERROR(GiveToGroup(bound, group));
  if (::chmod(bound.c_str(), group.empty() ? kOwnerOnly : kWithGroup) != 0 ||
      ::lstat(bound.c_str(), &status) != 0 || std::rename(bound.c_str(), path_.c_str()) != 0) {
    return Error("cannot make the socket", path_);
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  published_ = true;
  return absl::OkStatus();
}

SocketFile::~SocketFile() {
  struct stat status {};
  if (published_ && ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  ::unlink(bind_path().c_str());
  ::rmdir(folder_.c_str());
}

absl::Status ShareFolder(const std::string& folder, const std::string& group) {
  IMAGEDDPO_RETURN_IF_ERROR(GiveToGroup(folder, group));
  struct stat found = {};
  if (::stat(folder.c_str(), &found) != 0 ||
      ::chmod(folder.c_str(), (found.st_mode & 07777) | S_ISGID | S_IRGRP | S_IXGRP) != 0) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat(folder, " cannot be opened to the group ", group));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

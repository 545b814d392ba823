#include "trainer/controller/files/artifact_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/rejection.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

/// One more folder or file below an open folder, which is closed. -1: errno says why there is none.
int OpenBelow(int folder, const std::string& name, int flags) {
  // O_NONBLOCK: a pipe must not hold up who opens it.
  const int fd =
      ::openat(folder, name.c_str(), flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  const int error = errno;
  ::close(folder);
  errno = error;
  return fd;
}

absl::Status OpenError(const std::string& name) {
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:  // A symbolic link.
    case ENXIO:  // A socket.
    case ENAMETOOLONG:
      return absl::NotFoundError(
          absl::StrCat("the job has no file `", name, "`; ListArtifacts shows those that it has"));
    default:
      return ErrnoStatus(errno, absl::StrCat("cannot open ", name));
  }
}

}  // namespace

absl::StatusOr<ArtifactFile> ArtifactFile::Open(const std::string& job_dir,
                                                const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  for (const std::string& part : parts) {
    // Hidden files are being written or removed; "." and ".." lead elsewhere.
    if (part.empty() || absl::StartsWith(part, ".") || part.find('\0') != std::string::npos) {
      return InvalidField(
          "name", absl::StrCat("is `", name, "`; give one of the names that ListArtifacts shows"));
    }
  }
  int fd = ::open(job_dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  for (size_t i = 0; fd >= 0 && i < parts.size(); ++i) {
    fd = OpenBelow(fd, parts[i], i + 1 < parts.size() ? O_DIRECTORY : 0);
  }
  if (fd < 0) return OpenError(name);
  struct stat found = {};
  if (::fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) {
    ::close(fd);
    errno = ENOENT;
    return OpenError(name);
  }
  return ArtifactFile(fd, name, static_cast<int64_t>(found.st_size),
                      static_cast<uint64_t>(found.st_ino));
}

ArtifactFile::ArtifactFile(int fd, std::string name, int64_t size_bytes, uint64_t inode)
    : fd_(fd), name_(std::move(name)), size_bytes_(size_bytes), inode_(inode) {}

ArtifactFile::~ArtifactFile() {
  if (fd_ >= 0) ::close(fd_);
}

ArtifactFile::ArtifactFile(ArtifactFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      name_(std::move(other.name_)),
      size_bytes_(other.size_bytes_),
      inode_(other.inode_) {}

ArtifactFile& ArtifactFile::operator=(ArtifactFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(name_, other.name_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(inode_, other.inode_);
  return *this;
}

absl::StatusOr<std::string> ArtifactFile::Read(int64_t offset, int64_t count) const {
  std::string bytes(static_cast<size_t>(count), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(fd_, bytes.data() + done, bytes.size() - done,
                                static_cast<off_t>(offset) + static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrCat("cannot read ", name_));
    if (got == 0) {
      return absl::AbortedError(
          absl::StrCat(name_, " became shorter while it was sent; ask for it again"));
    }
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace imageddpo

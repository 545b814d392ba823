#include "common/io/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

absl::Status ErrorOn(const char* verb, const std::string& path, int error_number) {
  return ErrnoStatus(error_number, absl::StrCat("cannot ", verb, " '", ValidText(path), "'"));
}

/// A file descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int OpenRetrying(const std::string& path, int flags) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

/// @return 0 or an errno.
int WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), file_(fd) {}

  absl::Status Append(std::string_view bytes) override {
    const int error_number = WriteAll(file_.get(), bytes);
    return error_number == 0 ? absl::OkStatus() : ErrorOn("write", path_, error_number);
  }

  absl::Status Sync() override {
    return ::fsync(file_.get()) == 0 ? absl::OkStatus() : ErrorOn("sync", path_, errno);
  }

  absl::Status Close() override {
    const int fd = file_.Release();
    return fd < 0 || ::close(fd) == 0 ? absl::OkStatus() : ErrorOn("close", path_, errno);
  }

 private:
  std::string path_;
  Descriptor file_;
};

}  // namespace

absl::StatusOr<std::string> PosixFileSystem::Read(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const Descriptor file(OpenRetrying(path, O_RDONLY | O_NONBLOCK));
  if (file.get() < 0) return ErrorOn("open", path, errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return ErrorOn("read", path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read '", ValidText(path), "': it is not a regular file"));
  }
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
  size_t size = 0;
  for (;;) {
    if (size == bytes.size())
      bytes.resize(size + 4096);  // The file may have grown; one more read sees its end.
    const ssize_t count = ::read(file.get(), bytes.data() + size, bytes.size() - size);
    if (count < 0) {
      if (errno == EINTR) continue;
      return ErrorOn("read", path, errno);
    }
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  bytes.resize(size);
  return bytes;
}

absl::StatusOr<std::unique_ptr<WritableFile>> PosixFileSystem::Create(const std::string& path) {
  const int fd = OpenRetrying(path, O_WRONLY | O_CREAT | O_EXCL);
  if (fd < 0) return ErrorOn("create", path, errno);
  return std::make_unique<PosixWritableFile>(path, fd);
}

absl::Status PosixFileSystem::Append(const std::string& path, std::string_view bytes) {
  const Descriptor file(OpenRetrying(path, O_WRONLY | O_CREAT | O_APPEND));
  if (file.get() < 0) return ErrorOn("open", path, errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return ErrorOn("append to", path, errno);
  const int error_number = WriteAll(file.get(), bytes);
  if (error_number == 0) return absl::OkStatus();
  if (::ftruncate(file.get(), info.st_size) != 0) {
    return ErrorOn("append to (and could not cut back to its old length)", path, error_number);
  }
  return ErrorOn("append to", path, error_number);
}

absl::Status PosixFileSystem::Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  const int error_number = errno;
  return ErrnoStatus(error_number, absl::StrCat("cannot rename '", from, "' to '", to, "'"));
}

absl::Status PosixFileSystem::SyncDirectory(const std::string& path) {
  const Descriptor directory(OpenRetrying(path.empty() ? "." : path, O_RDONLY | O_DIRECTORY));
  if (directory.get() < 0) return ErrorOn("open directory", path, errno);
  if (::fsync(directory.get()) == 0) return absl::OkStatus();
  // Some network file systems cannot sync a directory and say so.
  if (errno == EINVAL || errno == ENOTSUP) return absl::OkStatus();
  return ErrorOn("sync directory", path, errno);
}

absl::Status PosixFileSystem::Remove(const std::string& path) {
  return ::unlink(path.c_str()) == 0 ? absl::OkStatus() : ErrorOn("remove", path, errno);
}

absl::Status PosixFileSystem::RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? ErrorOn("remove", path, error.value()) : absl::OkStatus();
}

absl::Status PosixFileSystem::MakeDirectory(const std::string& path) {
  return ::mkdir(path.c_str(), 0777) == 0 ? absl::OkStatus()
                                          : ErrorOn("make directory", path, errno);
}

absl::StatusOr<bool> PosixFileSystem::Exists(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT) return false;
  return ErrorOn("look up", path, errno);
}

absl::StatusOr<std::vector<std::string>> PosixFileSystem::List(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(path, error);
  const std::filesystem::directory_iterator end;
  while (!error && entry != end) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  if (error) return ErrorOn("list directory", path, error.value());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace imageddpo

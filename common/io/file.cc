#include "common/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/sha256.h"

namespace imageddpo {
namespace {

constexpr const char* kTemporaryMark = ".tmp-";
constexpr size_t kFilesOpenAtOnce = 64;

/// "/a/b" for "/a/b/c"; "." for "c".
std::string ParentOf(const std::string& path) {
  std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

/// A name beside `path` that no other process or thread takes: Create() and MakeDirectory() refuse
/// an existing one.
std::string TemporaryPathFor(const std::string& path) {
  const auto nanoseconds = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::filesystem::path final_path(path);
  const std::string name = absl::StrCat(".", final_path.filename().string(), kTemporaryMark,
                                        ::getpid(), "-", absl::Hex(nanoseconds));
  return (final_path.parent_path() / name).string();
}

absl::Status CheckFileName(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("'", name, "' is not a file name"));
  }
  return absl::OkStatus();
}

absl::Status CreateWriteSyncClose(FileSystem& file_system, const std::string& path,
                                  std::string_view bytes) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, file_system.Create(path));
  IMAGEDDPO_RETURN_IF_ERROR(file->Append(bytes));
  IMAGEDDPO_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

/// Writes files[begin..end) beside each other, then syncs all of them, then gives them their names.
absl::Status WriteGroup(FileSystem& file_system, const std::string& directory,
                        const std::vector<std::pair<std::string, std::string>>& files, size_t begin,
                        size_t end) {
  struct Written {
    std::string temporary, path;
    std::unique_ptr<WritableFile> file;
  };
  std::vector<Written> group;
  size_t named = 0;
  const auto write_all = [&]() -> absl::Status {
    for (size_t i = begin; i < end; ++i) {
      IMAGEDDPO_RETURN_IF_ERROR(CheckFileName(files[i].first));
      const std::string path = absl::StrCat(directory, "/", files[i].first);
      const std::string temporary = TemporaryPathFor(path);
      IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, file_system.Create(temporary));
      group.push_back({temporary, path, std::move(file)});
      IMAGEDDPO_RETURN_IF_ERROR(group.back().file->Append(files[i].second));
    }
    for (const Written& written : group) {
      IMAGEDDPO_RETURN_IF_ERROR(written.file->Sync());
      IMAGEDDPO_RETURN_IF_ERROR(written.file->Close());
    }
    for (; named < group.size(); ++named) {
      IMAGEDDPO_RETURN_IF_ERROR(file_system.Rename(group[named].temporary, group[named].path));
    }
    return absl::OkStatus();
  };
  absl::Status status = write_all();
  if (status.ok()) return status;
  for (; named < group.size(); ++named) file_system.Remove(group[named].temporary).IgnoreError();
  return Annotate(status, absl::StrCat("cannot write to '", directory, "'"));
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most_bytes) {
  std::error_code unknown;  // Then Read() says what is wrong.
  const uintmax_t size_bytes = std::filesystem::file_size(path, unknown);
  if (!unknown && size_bytes > most_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("'", ValidText(path), "' has ", size_bytes,
                                                   " bytes; of such a file at most ", most_bytes,
                                                   " are read: is it the right one?"));
  }
  return PosixFileSystem().Read(path);
}

absl::StatusOr<FileHead> ReadFileHead(const std::string& path, size_t bytes) {
  const auto failed = [&path](int error) {
    return ErrnoStatus(error, absl::StrCat("cannot read '", ValidText(path), "'"));
  };
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return failed(errno);
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } const closer{fd};
  struct stat found = {};
  if (::fstat(fd, &found) != 0) return failed(errno);
  if (!S_ISREG(found.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read '", ValidText(path), "': it is not a regular file"));
  }
  FileHead head{.bytes = "", .file_bytes = static_cast<size_t>(found.st_size)};
  head.bytes.resize(std::min(bytes, head.file_bytes));
  size_t done = 0;
  while (done < head.bytes.size()) {
    const ssize_t count = ::read(fd, head.bytes.data() + done, head.bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  head.bytes.resize(done);
  return head;
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  PosixFileSystem file_system;
  return WriteFileAtomically(file_system, path, bytes);
}

absl::Status WriteFileAtomically(FileSystem& file_system, const std::string& path,
                                 std::string_view bytes) {
  if (!CheckFileName(std::filesystem::path(path).filename().string()).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write '", path, "': it does not end in a file name"));
  }
  const std::string temporary = TemporaryPathFor(path);
  absl::Status status = CreateWriteSyncClose(file_system, temporary, bytes);
  if (status.ok()) status = file_system.Rename(temporary, path);
  if (!status.ok()) {
    if (!absl::IsAlreadyExists(status)) file_system.Remove(temporary).IgnoreError();
    return Annotate(status, absl::StrCat("cannot write '", path, "'"));
  }
  return file_system.SyncDirectory(ParentOf(path));
}

absl::Status WriteFilesAtomically(FileSystem& file_system, const std::string& directory,
                                  const std::vector<std::pair<std::string, std::string>>& files) {
  for (size_t begin = 0; begin < files.size(); begin += kFilesOpenAtOnce) {
    const size_t end = std::min(files.size(), begin + kFilesOpenAtOnce);
    IMAGEDDPO_RETURN_IF_ERROR(WriteGroup(file_system, directory, files, begin, end));
  }
  return files.empty() ? absl::OkStatus() : file_system.SyncDirectory(directory);
}

absl::Status AppendLine(const std::string& path, std::string_view line) {
  PosixFileSystem file_system;
  return AppendLine(file_system, path, line);
}

absl::Status AppendLine(FileSystem& file_system, const std::string& path, std::string_view line) {
  if (line.find('\n') != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot append to '", path, "': the line contains a newline"));
  }
  std::string bytes(line);
  bytes += '\n';
  return file_system.Append(path, bytes);
}

absl::Status SyncFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT ? absl::OkStatus()
                           : ErrnoStatus(errno, absl::StrCat("cannot open ", path));
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return error == 0 ? absl::OkStatus() : ErrnoStatus(error, absl::StrCat("cannot sync ", path));
}

absl::Status MakeDirectories(const std::string& path) {
  PosixFileSystem file_system;
  return MakeDirectories(file_system, path);
}

absl::Status MakeDirectories(FileSystem& file_system, const std::string& path) {
  std::filesystem::path so_far;
  for (const std::filesystem::path& component : std::filesystem::path(path)) {
    so_far /= component;
    if (component.empty() || component == "/" || component == "." || component == "..") continue;
    absl::Status status = file_system.MakeDirectory(so_far.string());
    if (status.ok() || absl::IsAlreadyExists(status)) continue;
    // A read-only or foreign parent may refuse even where the directory is there already.
    const absl::StatusOr<bool> exists = file_system.Exists(so_far.string());
    if (!exists.ok() || !*exists) return status;
  }
  const absl::StatusOr<std::vector<std::string>> names = file_system.List(path);
  return names.ok() ? absl::OkStatus() : names.status();  // Fails where the path names a file.
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  return PosixFileSystem().List(path);
}

bool IsTemporaryName(std::string_view name) {
  return name.starts_with('.') && name.find(kTemporaryMark) != std::string_view::npos;
}

absl::Status RemoveTemporaries(FileSystem& file_system, const std::string& directory) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, file_system.List(directory));
  for (const std::string& name : names) {
    if (!IsTemporaryName(name)) continue;
    IMAGEDDPO_RETURN_IF_ERROR(
        file_system.RemoveAll((std::filesystem::path(directory) / name).string()));
  }
  return absl::OkStatus();
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Add(bytes);
  return hash.Hex();
}

absl::StatusOr<AtomicDirectory> AtomicDirectory::Create(FileSystem& file_system,
                                                        const std::string& final_path) {
  const std::string path = WithoutTrailingSlashes(final_path);
  if (!CheckFileName(std::filesystem::path(path).filename().string()).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make directory '", final_path, "': it has no name"));
  }
  const std::string temporary = TemporaryPathFor(path);
  IMAGEDDPO_RETURN_IF_ERROR(file_system.MakeDirectory(temporary));
  return AtomicDirectory(file_system, path, temporary);
}

AtomicDirectory::AtomicDirectory(FileSystem& file_system, std::string final_path,
                                 std::string temporary_path)
    : file_system_(&file_system),
      final_path_(std::move(final_path)),
      temporary_path_(std::move(temporary_path)) {}

AtomicDirectory::AtomicDirectory(AtomicDirectory&& other) noexcept
    : file_system_(other.file_system_),
      final_path_(std::move(other.final_path_)),
      temporary_path_(std::exchange(other.temporary_path_, std::string())) {}

AtomicDirectory::~AtomicDirectory() {
  if (!temporary_path_.empty()) file_system_->RemoveAll(temporary_path_).IgnoreError();
}

absl::Status AtomicDirectory::Write(const std::string& name, std::string_view bytes) {
  IMAGEDDPO_RETURN_IF_ERROR(CheckFileName(name));
  return CreateWriteSyncClose(*file_system_, absl::StrCat(temporary_path_, "/", name), bytes);
}

absl::Status AtomicDirectory::Commit() {
  IMAGEDDPO_RETURN_IF_ERROR(file_system_->SyncDirectory(temporary_path_));
  if (absl::Status status = file_system_->Rename(temporary_path_, final_path_); !status.ok()) {
    const absl::StatusOr<bool> taken = file_system_->Exists(final_path_);
    if (taken.ok() && *taken) {
      return absl::AlreadyExistsError(
          absl::StrCat("cannot make directory '", final_path_, "': it exists"));
    }
    return status;
  }
  temporary_path_.clear();
  return file_system_->SyncDirectory(ParentOf(final_path_));
}

absl::Status AtomicDirectory::CommitReplacing() {
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool taken, file_system_->Exists(final_path_));
  if (!taken) return Commit();

  const std::string old = TemporaryPathFor(final_path_);
  IMAGEDDPO_RETURN_IF_ERROR(file_system_->Rename(final_path_, old));
  if (absl::Status status = Commit(); !status.ok()) {
    file_system_->Rename(old, final_path_)
        .IgnoreError();  // Refused where the new one is in place after all.
    return status;
  }
  return file_system_->RemoveAll(old);
}

}  // namespace imageddpo

#include "deploy/imageddpo/client/download.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"
#include "common/io/sha256.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/job_files_text.h"

namespace imageddpo {
namespace {

constexpr size_t kBarWidth = 20;
constexpr size_t kNameWidth = 40;
constexpr size_t kReadBytes = 1 << 20;

v1::DownloadArtifactRequest RequestOf(const std::string& job_id, const std::string& name,
                                      int64_t offset) {
  v1::DownloadArtifactRequest request;
  request.set_id(job_id);
  request.set_name(name);
  request.set_offset(offset);
  return request;
}

absl::Status ReadParts(Client& client, const v1::DownloadArtifactRequest& request,
                       const std::function<absl::Status(v1::DownloadArtifactResponse&)>& on_part) {
  return client.Read<v1::DownloadArtifactRequest, v1::DownloadArtifactResponse>(
      &Client::Stub::DownloadArtifact, request, on_part);
}

/// A file that grows, with the hash of what it holds. Locked, so that it has one writer.
class GrowingFile {
 public:
  static absl::StatusOr<std::unique_ptr<GrowingFile>> Open(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return ErrnoStatus(errno, absl::StrCat("cannot open ", path));
    std::unique_ptr<GrowingFile> file(new GrowingFile(path, fd));
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      return absl::FailedPreconditionError(absl::StrCat("another process downloads to ", path));
    }
    IMAGEDDPO_RETURN_IF_ERROR(file->HashContent());
    return file;
  }
  ~GrowingFile() { ::close(fd_); }
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;

  int64_t size_bytes() const { return size_bytes_; }
  std::string Sha256Hex() const { return hash_.Hex(); }

  absl::Status Append(std::string_view bytes) {
    for (std::string_view left = bytes; !left.empty();) {
      const ssize_t written = ::write(fd_, left.data(), left.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return ErrnoStatus(errno, absl::StrCat("cannot write ", path_));
      left.remove_prefix(static_cast<size_t>(written));
    }
    hash_.Add(bytes);
    size_bytes_ += static_cast<int64_t>(bytes.size());
    return absl::OkStatus();
  }

  absl::Status Clear() {
    if (::ftruncate(fd_, 0) != 0 || ::lseek(fd_, 0, SEEK_SET) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot cut ", path_));
    }
    hash_ = Sha256();
    size_bytes_ = 0;
    return absl::OkStatus();
  }

  absl::Status MoveTo(const std::string& path) {
    if (::fsync(fd_) != 0) return ErrnoStatus(errno, absl::StrCat("cannot write ", path_));
    if (std::rename(path_.c_str(), path.c_str()) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot move ", path_, " to ", path));
    }
    return absl::OkStatus();
  }

 private:
  GrowingFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  absl::Status HashContent() {
    std::string buffer(kReadBytes, '\0');
    while (true) {
      const ssize_t got = ::read(fd_, buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoStatus(errno, absl::StrCat("cannot read ", path_));
      if (got == 0) return absl::OkStatus();
      hash_.Add({buffer.data(), static_cast<size_t>(got)});
      size_bytes_ += got;
    }
  }

  const std::string path_;
  const int fd_;
  Sha256 hash_;
  int64_t size_bytes_ = 0;
};

/// Whether the service's file is the one at `path` already.
bool IsThere(Client& client, const std::string& job_id, const v1::Artifact& artifact,
             const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error || static_cast<int64_t>(size) != artifact.size_bytes()) return false;
  const auto file = GrowingFile::Open(path, O_RDONLY);
  if (!file.ok()) return false;
  std::string sha256;
  const absl::Status status =
      ReadParts(client, RequestOf(job_id, artifact.name(), artifact.size_bytes()),
                [&](v1::DownloadArtifactResponse& part) {
                  sha256 = part.data().empty() ? part.sha256() : "";
                  return absl::OkStatus();
                });
  return status.ok() && sha256 == (*file)->Sha256Hex();
}

/// One call of DownloadFile().
class Download {
 public:
  Download(Client& client, Screen& screen, Clock& clock, const std::string& job_id,
           const std::string& name, GrowingFile& file)
      : client_(client),
        screen_(screen),
        clock_(clock),
        job_id_(job_id),
        name_(name),
        file_(file) {}

  /// Until the file is whole.
  absl::Status Run(const DownloadOptions& options) {
    bool has_begun_anew = false;
    double alive_s = clock_.NowSeconds();
    while (true) {
      const int64_t before = file_.size_bytes();
      const absl::Status status = Go();
      if (status.ok()) return status;
      const double now_s = clock_.NowSeconds();
      if (file_.size_bytes() > before) alive_s = now_s;
      const bool is_another_file =
          absl::IsOutOfRange(status) || absl::IsDataLoss(status) || absl::IsAborted(status);
      if (is_another_file && !has_begun_anew) {
        has_begun_anew = true;
        IMAGEDDPO_RETURN_IF_ERROR(file_.Clear());
        continue;
      }
      if (!absl::IsUnavailable(status) || now_s - alive_s >= options.wait_seconds) return status;
      screen_.Status(absl::StrCat("waiting for the service, ", FormatDuration(now_s - alive_s)));
      clock_.SleepSeconds(kRetrySeconds);
    }
  }

 private:
  absl::Status Go() {
    std::string sha256;
    IMAGEDDPO_RETURN_IF_ERROR(
        ReadParts(client_, RequestOf(job_id_, name_, file_.size_bytes()),
                  [&](v1::DownloadArtifactResponse& part) -> absl::Status {
                    if (part.offset() != file_.size_bytes()) {
                      return absl::DataLossError(
                          absl::StrCat(name_, ": the service sent a part that was not asked for"));
                    }
                    IMAGEDDPO_RETURN_IF_ERROR(file_.Append(part.data()));
                    sha256 = part.sha256();
                    Show(part.size_bytes());
                    return absl::OkStatus();
                  }));
    if (sha256 == file_.Sha256Hex()) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(name_, ": what came is not what the service has (SHA-256)"));
  }

  void Show(int64_t total) {
    const double now_s = clock_.NowSeconds();
    if (now_s - last_draw_s_ < kRedrawSeconds) return;
    last_draw_s_ = now_s;
    const double share =
        total == 0 ? 1 : static_cast<double>(file_.size_bytes()) / static_cast<double>(total);
    screen_.Status(absl::StrCat(Truncate(Printable(name_), kNameWidth), " ▕",
                                ProgressBar(share, kBarWidth), "▏  ",
                                FormatBytes(file_.size_bytes()), " of ", FormatBytes(total)));
  }

  Client& client_;
  Screen& screen_;
  Clock& clock_;
  const std::string& job_id_;
  const std::string& name_;
  GrowingFile& file_;
  double last_draw_s_ = -1;
};

}  // namespace

absl::StatusOr<std::string> ReadArtifact(Client& client, const std::string& job_id,
                                         const std::string& name) {
  std::string content, sha256;
  IMAGEDDPO_RETURN_IF_ERROR(
      ReadParts(client, RequestOf(job_id, name, 0), [&](v1::DownloadArtifactResponse& part) {
        content.append(part.data());
        sha256 = part.sha256();
        return absl::OkStatus();
      }));
  if (sha256 == Sha256Hex(content)) return content;
  return absl::DataLossError(
      absl::StrCat(name, ": what came is not what the service has (SHA-256)"));
}

bool IsSafeName(std::string_view name) {
  const std::vector<std::string> parts = absl::StrSplit(std::string(name), '/');
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    return !part.empty() && part != "." && part != ".." && part.find('\0') == std::string::npos;
  });
}

absl::Status DownloadFile(Client& client, Screen& screen, Clock& clock, const std::string& job_id,
                          const v1::Artifact& artifact, const std::string& path,
                          const DownloadOptions& options) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (!folder.empty()) IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(folder));
  if (IsThere(client, job_id, artifact, path)) return absl::OkStatus();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<GrowingFile> file,
                             GrowingFile::Open(absl::StrCat(path, ".part"), O_RDWR | O_CREAT));
  absl::Status status =
      Download(client, screen, clock, job_id, artifact.name(), *file).Run(options);
  screen.Status("");
  IMAGEDDPO_RETURN_IF_ERROR(status);
  return file->MoveTo(path);
}

}  // namespace imageddpo

#include "trainer/controller/api/audit_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace imageddpo {

AuditLog::AuditLog(std::string path, const Clock& clock, int64_t max_bytes)
    : path_(std::move(path)), clock_(clock), max_bytes_(max_bytes) {}

absl::Status AuditLog::Note(const Entry& entry) {
  const nlohmann::ordered_json row = {
      {"time", clock_.WallTime()},
      {"owner", entry.caller.owner},
      {"role", entry.is_known ? std::string(RoleName(entry.caller.role)) : ""},
      {"peer", entry.peer},
      {"method", entry.method},
      {"job", Excerpt(entry.job, 100)},
      {"allowed", entry.status.ok()},
      {"code", absl::StatusCodeToString(entry.status.code())},
      {"reason", ValidMessage(std::string(entry.status.message()))}};
  const std::string line =
      row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const absl::MutexLock lock(&mutex_);
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0 && status.st_size >= max_bytes_ &&
      std::rename(path_.c_str(), absl::StrCat(path_, ".1").c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", path_));
  }
  const int fd =
      ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path_));
  const ssize_t written = ::write(fd, line.data(), line.size());
  const int error = errno;
  ::close(fd);
  if (written == static_cast<ssize_t>(line.size())) return absl::OkStatus();
  return absl::ErrnoToStatus(written < 0 ? error : ENOSPC, absl::StrCat("cannot write ", path_));
}

}  // namespace imageddpo

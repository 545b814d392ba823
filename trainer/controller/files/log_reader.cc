#include "trainer/controller/files/log_reader.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "trainer/controller/store/job_log.h"

namespace imageddpo {
namespace {

constexpr int64_t kReadAtOnceBytes = 256 << 10;
constexpr int64_t kFirstRowBytes = 64 << 10;  // More than a row has.

/// nullopt: there is no such file.
absl::StatusOr<std::optional<ArtifactFile>> OpenIfThere(const std::string& job_dir,
                                                        const char* name) {
  absl::StatusOr<ArtifactFile> file = ArtifactFile::Open(job_dir, name);
  if (absl::IsNotFound(file.status())) return std::optional<ArtifactFile>();
  IMAGEDDPO_RETURN_IF_ERROR(file.status());
  return std::optional<ArtifactFile>(*std::move(file));
}

}  // namespace

absl::Status LogReader::GoTo(const std::string& cursor) {
  const std::vector<std::string> parts = absl::StrSplit(cursor, ':');
  FileId id;
  int64_t offset = -1;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &id.inode) ||
      !absl::SimpleAtoi(parts[1], &id.first_row_ms) || !absl::SimpleAtoi(parts[2], &offset) ||
      offset < 0) {
    return InvalidField("cursor",
                        absl::StrCat("is `", cursor, "`; give one that StreamLogs has sent"));
  }
  read_ = id;
  offset_ = offset;
  return absl::OkStatus();
}

std::string LogReader::cursor() const {
  return absl::StrCat(read_.inode, ":", read_.first_row_ms, ":", offset_);
}

absl::StatusOr<LogReader::FileId> LogReader::IdOf(const std::optional<ArtifactFile>& file) {
  if (!file.has_value()) return FileId();
  FileId id{.inode = file->inode()};
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string head,
                             file->Read(0, std::min(kFirstRowBytes, file->size_bytes())));
  const size_t end = head.find('\n');
  if (end == std::string::npos) return id;
  if (const auto line = ReadLogRow(std::string_view(head).substr(0, end))) {
    id.first_row_ms = line->time().seconds() * 1000 + line->time().nanos() / 1'000'000;
  }
  return id;
}

bool LogReader::IsRead(const FileId& id) const {
  return id.inode == read_.inode &&
         (id.first_row_ms == read_.first_row_ms || read_.first_row_ms == -1);
}

absl::StatusOr<bool> LogReader::Read(std::vector<v1::LogLine>* lines) {
  // Nothing is appended to a file any more once another one has its name.
  IMAGEDDPO_ASSIGN_OR_RETURN(auto current, OpenIfThere(job_dir_, kLogName));
  std::optional<ArtifactFile>* file = &current;
  std::optional<ArtifactFile> old;
  IMAGEDDPO_ASSIGN_OR_RETURN(const FileId current_id, IdOf(current));
  FileId id = current_id;
  if (!current.has_value() || !IsRead(current_id)) {
    IMAGEDDPO_ASSIGN_OR_RETURN(old, OpenIfThere(job_dir_, kOldLogName));
    IMAGEDDPO_ASSIGN_OR_RETURN(const FileId old_id, IdOf(old));
    const bool is_old = old.has_value() && IsRead(old_id);
    if (old.has_value()) {
      file = &old;
      id = old_id;
    }
    if (!is_old) offset_ = 0;
  }
  read_ = id;
  if (!file->has_value()) return false;
  if (offset_ > (*file)->size_bytes()) offset_ = 0;
  const int64_t count = std::min(kReadAtOnceBytes, (*file)->size_bytes() - offset_);
  std::string bytes;
  if (count > 0) {
    IMAGEDDPO_ASSIGN_OR_RETURN(bytes, (*file)->Read(offset_, count));
  }
  const size_t end = bytes.rfind('\n');
  if (end == std::string::npos && count < kReadAtOnceBytes) {
    if (file != &old || !current.has_value()) return false;
    read_ = current_id;
    offset_ = 0;
    return true;
  }
  // What has no line in so many bytes is no log.
  const size_t whole = end == std::string::npos ? bytes.size() : end + 1;
  offset_ += static_cast<int64_t>(whole);
  for (const absl::string_view row :
       absl::StrSplit(absl::string_view(bytes).substr(0, whole), '\n', absl::SkipEmpty())) {
    if (auto line = ReadLogRow({row.data(), row.size()})) lines->push_back(*std::move(line));
  }
  return true;
}

}  // namespace imageddpo

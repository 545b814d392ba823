#include "trainer/controller/files/log_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "trainer/controller/files/artifact_file.h"
#include "trainer/controller/store/job_log.h"

namespace imageddpo {
namespace {

constexpr int64_t kReadAtOnceBytes = 256 << 10;

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
  uint64_t inode = 0;
  int64_t offset = -1;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &inode) ||
      !absl::SimpleAtoi(parts[1], &offset) || offset < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("`cursor` is `", cursor, "`; give one that StreamLogs has sent"));
  }
  inode_ = inode;
  offset_ = offset;
  return absl::OkStatus();
}

std::string LogReader::cursor() const { return absl::StrCat(inode_, ":", offset_); }

absl::StatusOr<bool> LogReader::Read(std::vector<v1::LogLine>* lines) {
  // Nothing is appended to a file any more once another one has its name.
  IMAGEDDPO_ASSIGN_OR_RETURN(auto current, OpenIfThere(job_dir_, kLogName));
  std::optional<ArtifactFile>* file = &current;
  std::optional<ArtifactFile> old;
  if (!current.has_value() || current->inode() != inode_) {
    IMAGEDDPO_ASSIGN_OR_RETURN(old, OpenIfThere(job_dir_, kOldLogName));
    if (old.has_value() && old->inode() == inode_) {
      file = &old;
    } else {
      file = old.has_value() ? &old : &current;
      inode_ = file->has_value() ? (*file)->inode() : 0;
      offset_ = 0;
    }
  }
  if (!file->has_value()) return false;
  if (offset_ > (*file)->size_bytes()) offset_ = 0;  // Another file has got its number.
  const int64_t count = std::min(kReadAtOnceBytes, (*file)->size_bytes() - offset_);
  std::string bytes;
  if (count > 0) {
    IMAGEDDPO_ASSIGN_OR_RETURN(bytes, (*file)->Read(offset_, count));
  }
  const size_t end = bytes.rfind('\n');
  if (end == std::string::npos && count < kReadAtOnceBytes) {
    if (file != &old || !current.has_value()) return false;
    inode_ = current->inode();
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

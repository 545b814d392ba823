#include "trainer/controller/store/artifact_writer.h"

#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);  // Between two looks at the clock.

int64_t SizeOf(const ArtifactWriter::Folder& folder) {
  int64_t bytes = 0;
  for (const auto& [name, content] : folder.files) bytes += static_cast<int64_t>(content.size());
  return bytes;
}

bool Passes(const absl::Status& status) {
  const std::optional<Fault> fault = FaultOf(status);
  return fault.has_value() && fault->passes;
}

}  // namespace

ArtifactWriter::ArtifactWriter(const Options& options, FileSystem& file_system, const Clock& clock)
    : options_(options), file_system_(file_system), clock_(clock) {
  thread_ = std::thread([this] { Run(); });
}

ArtifactWriter::~ArtifactWriter() {
  stop_.Close();
  queue_.Close();
  thread_.join();
}

absl::Status ArtifactWriter::Put(Folder folder) {
  const int64_t bytes = SizeOf(folder);
  {
    const absl::MutexLock lock(&mutex_);
    if (waiting_bytes_ > 0 && waiting_bytes_ + bytes > options_.max_bytes) {
      return WithFault(absl::ResourceExhaustedError(
                           absl::StrCat(folder.files.size(), " pictures for ", folder.directory,
                                        " are left out: ", waiting_bytes_,
                                        " bytes of earlier ones wait for the disk already")),
                       {.whose = Whose::kService, .passes = true});
    }
    waiting_bytes_ += bytes;
    ++works_by_job_[folder.job_id];
  }
  queue_.Put(std::move(folder));
  return absl::OkStatus();
}

absl::Status ArtifactWriter::Append(const Lines& lines) {
  const Path path(lines.directory, lines.name);
  {
    const absl::MutexLock lock(&mutex_);
    const auto waiting = lines_.find(path);
    if (waiting != lines_.end()) {
      if (waiting->second.text.size() + lines.text.size() > kMaxWaitingLines) {
        return absl::ResourceExhaustedError(
            absl::StrCat("lines of ", lines.name, " are left out: earlier ones wait for the disk"));
      }
      waiting->second.text += lines.text;
      return absl::OkStatus();
    }
    lines_.emplace(path, lines);
    ++works_by_job_[lines.job_id];
  }
  queue_.Put(path);
  return absl::OkStatus();
}

bool ArtifactWriter::HasWork(const std::string& job_id) const {
  const absl::MutexLock lock(&mutex_);
  return works_by_job_.contains(job_id);
}

std::vector<ArtifactWriter::Outcome> ArtifactWriter::TakeErrors() {
  const absl::MutexLock lock(&mutex_);
  return std::exchange(errors_, {});
}

void ArtifactWriter::Run() {
  while (true) {
    const std::optional<Work> work = queue_.Take(absl::InfiniteDuration());
    if (!work.has_value()) return;  // Closed, and all is written.
    if (const auto* folder = std::get_if<Folder>(&*work)) {
      Handle(folder->job_id, "pictures", [&] { return Write(*folder); });
      Finished(folder->job_id, SizeOf(*folder));
    } else {
      const Lines lines = TakeLines(std::get<Path>(*work));
      Handle(lines.job_id, "log lines", [&] { return Write(lines); });
      Finished(lines.job_id, 0);
    }
  }
}

void ArtifactWriter::Handle(const std::string& job_id, const char* what,
                            const std::function<absl::Status()>& write) {
  const double start_s = clock_.NowSeconds();
  Backoff backoff;
  while (true) {
    const absl::Status status = write();
    if (status.ok()) return;
    const double now_s = clock_.NowSeconds();
    const bool again =
        Passes(status) && !stop_.closed() && now_s - start_s < options_.patience_seconds;
    if (!again || !backoff.failing()) Report({job_id, status, !again, what});
    if (!again) return;
    backoff.Failed(now_s);
    while (!backoff.IsDue(clock_.NowSeconds()) && !stop_.closed()) stop_.Take(kPause);
  }
}

absl::Status ArtifactWriter::Write(const Folder& folder) {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, folder.directory));
  IMAGEDDPO_RETURN_IF_ERROR(RemoveTemporaries(file_system_, folder.directory));
  return WriteFilesAtomically(file_system_, folder.directory, folder.files);
}

absl::Status ArtifactWriter::Write(const Lines& lines) {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, lines.directory));
  const std::string path = absl::StrCat(lines.directory, "/", lines.name);
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!error && static_cast<int64_t>(size + lines.text.size()) > lines.max_file_bytes) {
    IMAGEDDPO_RETURN_IF_ERROR(file_system_.Rename(path, absl::StrCat(path, ".1")));
  }
  return file_system_.Append(path, lines.text);
}

ArtifactWriter::Lines ArtifactWriter::TakeLines(const Path& path) {
  const absl::MutexLock lock(&mutex_);
  return std::move(lines_.extract(path).mapped());
}

void ArtifactWriter::Report(Outcome outcome) {
  const absl::MutexLock lock(&mutex_);
  errors_.push_back(std::move(outcome));
}

void ArtifactWriter::Finished(const std::string& job_id, int64_t folder_bytes) {
  const absl::MutexLock lock(&mutex_);
  waiting_bytes_ -= folder_bytes;
  const auto entry = works_by_job_.find(job_id);
  if (--entry->second == 0) works_by_job_.erase(entry);
}

}  // namespace imageddpo

#include "trainer/controller/store/artifact_writer.h"

#include <optional>

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
    ++folders_by_job_[folder.job_id];
  }
  queue_.Put(std::move(folder));
  return absl::OkStatus();
}

bool ArtifactWriter::HasWork(const std::string& job_id) const {
  const absl::MutexLock lock(&mutex_);
  return folders_by_job_.contains(job_id);
}

std::vector<ArtifactWriter::Outcome> ArtifactWriter::TakeErrors() {
  const absl::MutexLock lock(&mutex_);
  return std::exchange(errors_, {});
}

void ArtifactWriter::Run() {
  while (true) {
    std::optional<Folder> folder = queue_.Take(absl::InfiniteDuration());
    if (!folder.has_value()) return;  // Closed, and all is written.
    const double start_s = clock_.NowSeconds();
    Backoff backoff;
    while (true) {
      const absl::Status status = Write(*folder);
      if (status.ok()) break;
      const double now_s = clock_.NowSeconds();
      const bool again =
          Passes(status) && !stop_.closed() && now_s - start_s < options_.patience_seconds;
      if (!again || !backoff.failing()) Report(*folder, status, !again);
      if (!again) break;
      backoff.Failed(now_s);
      while (!backoff.IsDue(clock_.NowSeconds()) && !stop_.closed()) stop_.Take(kPause);
    }
    Finished(*folder);
  }
}

absl::Status ArtifactWriter::Write(const Folder& folder) {
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(file_system_, folder.directory));
  IMAGEDDPO_RETURN_IF_ERROR(RemoveTemporaries(file_system_, folder.directory));
  return WriteFilesAtomically(file_system_, folder.directory, folder.files);
}

void ArtifactWriter::Report(const Folder& folder, const absl::Status& status, bool given_up) {
  const absl::MutexLock lock(&mutex_);
  errors_.push_back({folder.job_id, status, given_up});
}

void ArtifactWriter::Finished(const Folder& folder) {
  const absl::MutexLock lock(&mutex_);
  waiting_bytes_ -= SizeOf(folder);
  const auto entry = folders_by_job_.find(folder.job_id);
  if (--entry->second == 0) folders_by_job_.erase(entry);
}

}  // namespace imageddpo

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/base/blocking_queue.h"
#include "common/base/clock.h"
#include "common/io/file_system.h"
#include "trainer/controller/store/backoff.h"

namespace imageddpo {

/// Writes files that nothing else on disk relies on, the pictures and log lines of jobs, on a
/// thread of its own, so that the controller's thread never waits for them. Folders are written in
/// the order in which they came, each with one sync of the directory. Errors of the disk that may
/// pass (Fault) are tried again, with growing pauses, up to Options::patience_seconds for one
/// folder. What waits is lost only if the process dies. Thread-safe.
class ArtifactWriter {
 public:
  struct Options {
    /// Bytes that may wait; more are refused. An empty queue takes any folder.
    int64_t max_bytes = int64_t{1} << 30;
    double patience_seconds = 600;
  };

  struct Folder {
    std::string job_id;
    std::string directory;                                   ///< Made if it is missing.
    std::vector<std::pair<std::string, std::string>> files;  ///< Names and contents.
  };

  /// @param file_system, clock  must outlive the writer.
  ArtifactWriter(const Options& options, FileSystem& file_system, const Clock& clock);
  /// Writes what waits, trying each folder once.
  ~ArtifactWriter();
  ArtifactWriter(const ArtifactWriter&) = delete;
  ArtifactWriter& operator=(const ArtifactWriter&) = delete;

  /// Queues a folder; does not block. @return RESOURCE_EXHAUSTED: more than max_bytes would wait;
  /// nothing was queued.
  absl::Status Put(Folder folder);

  struct Lines {
    std::string job_id;
    std::string directory;   ///< Made if it is missing.
    std::string name;        ///< Of the file in it.
    std::string text;        ///< Whole lines.
    int64_t max_file_bytes;  ///< A file that would have more becomes NAME.1, in place of that one.
  };
  /// Queues lines for the end of a file; does not block. Lines that wait for the same file are
  /// written together.
  /// @return RESOURCE_EXHAUSTED: more than kMaxWaitingLines bytes of the file would wait; these
  /// are dropped.
  absl::Status Append(const Lines& lines);
  static constexpr size_t kMaxWaitingLines = 1 << 20;

  /// Whether something of the job is not written yet.
  bool HasWork(const std::string& job_id) const;

  struct Outcome {
    std::string job_id;
    absl::Status status;            ///< An error.
    bool given_up = true;           ///< false: it is tried again.
    const char* what = "pictures";  ///< That are not written: those or "log lines".
  };
  /// What went wrong since the last call: the first error of each folder, and when it is given up.
  std::vector<Outcome> TakeErrors();

 private:
  using Path = std::pair<std::string, std::string>;  // Directory and name of a file.
  using Work = std::variant<Folder, Path>;           // Path: lines_ has its lines.

  void Run();
  /// Writes until it works or is given up.
  void Handle(const std::string& job_id, const char* what,
              const std::function<absl::Status()>& write);
  absl::Status Write(const Folder& folder);
  absl::Status Write(const Lines& lines);
  void Report(Outcome outcome);
  Lines TakeLines(const Path& path);
  void Finished(const std::string& job_id, int64_t folder_bytes);

  const Options options_;
  FileSystem& file_system_;
  const Clock& clock_;
  BlockingQueue<Work> queue_;
  BlockingQueue<bool> stop_;  // Closed at the end, which ends the pauses.

  mutable absl::Mutex mutex_;
  int64_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // Of folders.
  std::map<std::string, int> works_by_job_ ABSL_GUARDED_BY(mutex_);
  std::map<Path, Lines> lines_ ABSL_GUARDED_BY(mutex_);  // Those that wait, each once in queue_.
  std::vector<Outcome> errors_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace imageddpo

#pragma once

#include <functional>
#include <map>
#include <string>

#include "common/base/clock.h"
#include "common/config/resolved_job.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/jobs/recovery.h"
#include "trainer/controller/store/backoff.h"

namespace imageddpo {

/// The jobs that are PAUSED because something outside of the service is away
/// (JobProgress.waiting_for is set): has it looked for, with growing pauses, and puts the job back
/// into the queue when it is there. Pauses that a user asked for are left alone. Waits for nothing.
/// Thread-compatible: used by the controller's thread.
class Outages {
 public:
  struct Dependencies {
    JobTable& table;
    Recovery& recovery;
    const Clock& clock;
    /// Has somebody find out whether what the job needs is there again, and returns at once;
    /// OnAnswer() is then to be called. Null: nobody can, and the jobs wait for ResumeJob.
    std::function<void(const std::string& job_id, const ResolvedJob& job)> ask;
  };
  explicit Outages(Dependencies dependencies);

  /// Asks for the jobs whose time has come. Call it often, but not when the service is to end.
  void Tick();
  /// The answer to one question. A job that waits no more is left as it is.
  void OnAnswer(const std::string& job_id, bool is_back);

 private:
  struct Look {
    Backoff pauses;
    bool is_asked = false;
  };

  const Dependencies dependencies_;
  std::map<std::string, Look> looks_;  // By job id.
};

}  // namespace imageddpo

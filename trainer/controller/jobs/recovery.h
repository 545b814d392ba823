#pragma once

#include <string>

#include "absl/status/status.h"
#include "trainer/controller/artifacts/checkpoint_store.h"
#include "trainer/controller/jobs/job_table.h"
#include "trainer/controller/pool/scheduler.h"
#include "trainer/controller/store/backoff.h"

namespace imageddpo {

/// What decides about a job's place in the queue.
QueueStanding StandingOf(const JobRecord& record);

/// Decides what becomes of a job that lost its ranks without the user asking for it, also when the
/// service ends and starts again: it waits for new ones, or becomes FAILED once its restarts are
/// used up. A job whose own folder the service cannot read or write now waits, and is tried again
/// by itself: the disk is the service's, so the job is never FAILED for it. Changes records and the
/// queue only; sends nothing. Thread-compatible: used by the controller's thread.
class Recovery {
 public:
  /// @param max_restarts  of one job without a new epoch in between; then it fails.
  /// @param table, queue  must outlive this object.
  Recovery(int max_restarts, JobTable& table, Scheduler& queue);

  /// Call it once, at start: loads the unfinished jobs and puts them back into the queue. A job
  /// that held ranks, so that its service has died, is charged with a restart; one that was PAUSING
  /// is PAUSED, or QUEUED if it was to make room for another job.
  absl::Status ResumeStored();

  /// The job lost its ranks, and is charged with that: RECOVERING, or FAILED once max_restarts is
  /// used up. Some of its ranks may still work; Requeue() it when none does.
  void Recover(JobRecord& record, const std::string& reason);

  /// A guard takes the job back: removes the checkpoints after the newest one of at most `epochs`
  /// epochs, counts the rollback in the job's settings and makes it RECOVERING, or PAUSED where it
  /// has no such checkpoint. Not charged as a restart. No rank works for the job.
  void RollBack(JobRecord& record, CheckpointStore checkpoints, int64_t epochs,
                const std::string& reason);

  /// Puts the job into the queue if it waits for ranks: a RECOVERING one before those that have not
  /// run yet. A job that this version cannot run becomes FAILED.
  void Requeue(JobRecord& record);

  /// A job that was to make room for another one is PAUSED: it goes back into the queue.
  void RequeuePreempted(JobRecord& record);

  /// The job got ranks, but its folder could not be prepared: puts it back into the queue, where it
  /// waits with this reason. All jobs that wait for this try again together, in the queue's order,
  /// after growing pauses (Backoff); jobs whose folders can be used go past them.
  void Postpone(JobRecord& record, const absl::Status& why);
  /// A job's folder could be prepared.
  void Prepared();
  /// Lets postponed jobs try again when it is time. Call it regularly.
  void Tick();

  /// The service ends: jobs that hold ranks continue at the next start, which is not charged to
  /// them, or are PAUSED if that was asked for.
  void Interrupt(const std::string& reason);

  /// Whether a job was charged with the loss of its ranks since the start.
  bool charged() const { return charged_; }

 private:
  const int max_restarts_;
  JobTable& table_;
  Scheduler& queue_;
  bool charged_ = false;
  bool postponed_ = false;  // Since the last common try.
  Backoff disk_;
};

}  // namespace imageddpo

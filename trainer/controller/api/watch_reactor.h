#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// One WatchJob call: sends stored events, starting with the requested one, then waits for news
/// from the hub. Only one write is under way at a time; further events stay in the store until it
/// is done, so a slow client costs no memory. Owned by gRPC from Start() to OnDone().
class WatchReactor final : public grpc::ServerWriteReactor<v1::JobEvent>,
                           public EventHub::Listener {
 public:
  struct Dependencies {
    JobStore& store;
    EventHub& hub;
    ServiceMetrics& metrics;
    const Clock& clock;
  };

  static WatchReactor* Start(const Dependencies& dependencies, const v1::WatchJobRequest& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void OnNews() override;

 private:
  WatchReactor(const Dependencies& dependencies, const v1::WatchJobRequest& request);

  /// Starts the next write, or ends the call; does nothing if a write is under way or there is no
  /// news.
  void Pump();
  /// Chooses what comes next: a stored event, else newer progress. Sets `next_` and returns true;
  /// sets `end_` if the call is over.
  bool ChooseNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Dependencies dependencies_;
  const std::string job_id_;
  const bool stored_only_;
  const double start_s_;

  absl::Mutex mutex_;
  int64_t next_number_ ABSL_GUARDED_BY(mutex_);            // Of the event to be read next.
  std::deque<v1::JobEvent> page_ ABSL_GUARDED_BY(mutex_);  // Read and not sent yet.
  uint64_t progress_version_ ABSL_GUARDED_BY(mutex_) = 0;  // Of the newest progress sent.
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;             // Nothing follows page_.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  v1::JobEvent next_;                   // Being written; untouched while writing_.
  std::shared_ptr<WatchReactor> self_;  // Keeps the object until OnDone().
};

}  // namespace imageddpo

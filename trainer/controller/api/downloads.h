#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/blocking_queue.h"
#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// The DownloadArtifact calls under way. Files are read and hashed on one thread, part by part in
/// turn, so that calls wait for the disk neither on gRPC's threads nor on the controller's, and a
/// client that reads slowly takes no thread and one part of memory. A caller may have
/// kMaxPerCaller of them at a time. Thread-safe.
class Downloads {
 public:
  static constexpr int kMaxPerCaller = 16;

  /// @param store, metrics, clock  must outlive the object.
  Downloads(const JobStore& store, ServiceMetrics& metrics, const Clock& clock);
  /// The server that the calls belong to must have ended.
  ~Downloads();
  Downloads(const Downloads&) = delete;
  Downloads& operator=(const Downloads&) = delete;

  /// @param owner  who calls. @return the call's reactor, which gRPC owns.
  grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* Start(
      const std::string& owner, const v1::DownloadArtifactRequest& request);

 private:
  class Call;

  /// Whether the caller may have one more, which then counts.
  bool TakePlace(const std::string& owner);
  void GiveBackPlace(const std::string& owner);

  const JobStore& store_;
  ServiceMetrics& metrics_;
  const Clock& clock_;
  absl::Mutex mutex_;
  std::map<std::string, int> calls_by_owner_ ABSL_GUARDED_BY(mutex_);
  BlockingQueue<std::function<void()>> steps_;
  std::thread thread_;
};

}  // namespace imageddpo

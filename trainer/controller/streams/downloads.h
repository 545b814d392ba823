#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/store/job_store.h"
#include "trainer/controller/streams/file_thread.h"

namespace imageddpo {

/// The DownloadArtifact calls under way. Files are read and hashed part by part, those of several
/// calls in turn. Thread-safe.
class Downloads {
 public:
  static constexpr int kMaxPerCaller = 16;

  /// The arguments must outlive the object, and the object the server that serves its calls.
  Downloads(const JobStore& store, FileThread& thread, ServiceMetrics& metrics, const Clock& clock)
      : store_(store), thread_(thread), metrics_(metrics), clock_(clock) {}

  /// @param owner  who calls. @return the call's reactor, which gRPC owns.
  grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* Start(
      const std::string& owner, const v1::DownloadArtifactRequest& request);

 private:
  const JobStore& store_;
  FileThread& thread_;
  ServiceMetrics& metrics_;
  const Clock& clock_;
  CallerPlaces places_{kMaxPerCaller};
};

}  // namespace imageddpo

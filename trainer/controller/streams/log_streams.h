#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "common/base/clock.h"
#include "common/metrics/service_metrics.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/jobs/event_hub.h"
#include "trainer/controller/store/job_store.h"
#include "trainer/controller/streams/file_thread.h"

namespace imageddpo {

/// The StreamLogs calls under way. One that has sent everything and follows looks again a few times
/// a second. Thread-safe.
class LogStreams {
 public:
  static constexpr int kMaxPerCaller = 16;

  /// The arguments must outlive the object, and the object the server that serves its calls.
  LogStreams(const JobStore& store, EventHub& hub, FileThread& thread, ServiceMetrics& metrics,
             const Clock& clock)
      : store_(store), hub_(hub), thread_(thread), metrics_(metrics), clock_(clock) {}

  /// @param owner  who calls. @return the call's reactor, which gRPC owns.
  grpc::ServerWriteReactor<v1::StreamLogsResponse>* Start(const std::string& owner,
                                                          const v1::StreamLogsRequest& request);

 private:
  const JobStore& store_;
  EventHub& hub_;
  FileThread& thread_;
  ServiceMetrics& metrics_;
  const Clock& clock_;
  CallerPlaces places_{kMaxPerCaller};
};

}  // namespace imageddpo

#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/rejection.h"
#include "common/metrics/service_metrics.h"
#include "trainer/controller/streams/file_thread.h"
#include "trainer/controller/streams/grpc_status.h"

namespace imageddpo {

/// A call that sends what it reads from files. At any time either a step of it waits or runs on the
/// FileThread, or a message is being sent: what a subclass has needs no lock. So a client that
/// reads slowly takes no thread and one message of memory. gRPC owns it from Begin() to OnDone().
template <typename Response>
class FileCall : public grpc::ServerWriteReactor<Response> {
 public:
  /// What it uses; outlives it.
  struct Parts {
    const char* method;
    FileThread& thread;
    CallerPlaces& places;
    ServiceMetrics& metrics;
    const Clock& clock;
  };

  FileCall(const Parts& parts, std::string owner)
      : parts_(parts), owner_(std::move(owner)), start_s_(parts.clock.NowSeconds()) {}

  void Begin() {
    has_place_ = parts_.places.Take(owner_);
    Continue();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) cancelled_ = true;
    Continue();
  }
  void OnCancel() override { cancelled_ = true; }  // The step or the write under way ends it.
  void OnDone() override {
    if (has_place_) parts_.places.GiveBack(owner_);
    delete this;
  }

 protected:
  ~FileCall() override = default;

  /// Does one of StartWrite(), Continue(), ContinueLater() and End(), as the last thing that it
  /// does.
  virtual void Step() = 0;

  void Continue() {
    parts_.thread.Run([this] { TakeStep(); });
  }
  void ContinueLater() {
    parts_.thread.RunLater([this] { TakeStep(); });
  }
  void End(const absl::Status& status) {
    parts_.metrics.RpcFinished(parts_.method, status.code(), parts_.clock.NowSeconds() - start_s_);
    this->Finish(ToGrpcStatus(status));
  }

 private:
  void TakeStep() {
    if (cancelled_) return End(absl::CancelledError("the client went away"));
    if (has_place_) return Step();
    End(WithReason(absl::ResourceExhaustedError(
                       absl::StrCat(parts_.places.max_per_caller(), " calls of yours of ",
                                    parts_.method, " are under way; wait for one to end")),
                   Reason::kTooManyCalls, {{"method", parts_.method}}));
  }

  const Parts parts_;
  const std::string owner_;
  const double start_s_;
  std::atomic<bool> cancelled_ = false;
  bool has_place_ = false;
};

}  // namespace imageddpo

#include "trainer/controller/api/watch_reactor.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "trainer/controller/streams/grpc_status.h"

namespace imageddpo {
namespace {

constexpr int64_t kEventsPerRead = 64;

}  // namespace

WatchReactor* WatchReactor::Start(const Dependencies& dependencies,
                                  const v1::WatchJobRequest& request) {
  std::shared_ptr<WatchReactor> reactor(new WatchReactor(dependencies, request));
  WatchReactor* const raw = reactor.get();
  raw->self_ = reactor;
  dependencies.hub.Listen(raw->job_id_,
                          reactor);  // Before the first read: nothing falls in between.
  raw->Pump();
  return raw;
}

WatchReactor::WatchReactor(const Dependencies& dependencies, const v1::WatchJobRequest& request)
    : dependencies_(dependencies),
      job_id_(request.id()),
      stored_only_(request.stored_only()),
      start_s_(dependencies.clock.NowSeconds()),
      next_number_(std::max<int64_t>(1, request.from_event())) {}

bool WatchReactor::ChooseNext() {
  const auto end_with = [this](absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    finished_ = true;
    end_ = std::move(status);
    return false;
  };
  if (cancelled_) return end_with(absl::CancelledError("the watcher went away"));
  // Must be read before the store, which then has the last events.
  const bool closed = dependencies_.hub.closed();
  if (page_.empty() && !ended_) {
    absl::StatusOr<JobStore::EventPage> page =
        dependencies_.store.Events(job_id_, next_number_, kEventsPerRead);
    if (!page.ok()) return end_with(page.status());
    ended_ = page->ended;
    if (!page->events.empty()) next_number_ = page->events.back().number() + 1;
    std::move(page->events.begin(), page->events.end(), std::back_inserter(page_));
  }
  if (!page_.empty()) {
    next_ = std::move(page_.front());
    page_.pop_front();
    return true;
  }
  if (ended_ || stored_only_) return end_with(absl::OkStatus());
  if (closed) {
    return end_with(WithReason(absl::UnavailableError(absl::StrCat(
                                   "the service is ending; watch ", job_id_, " again from event ",
                                   next_number_, " when it is back")),
                               Reason::kNotReady));
  }
  const std::optional<EventHub::Published> progress = dependencies_.hub.PublishedProgress(job_id_);
  if (!progress.has_value() || progress->version <= progress_version_) return false;
  progress_version_ = progress->version;
  next_.Clear();
  *next_.mutable_progress() = progress->progress;
  const auto unix_ms = static_cast<int64_t>(dependencies_.clock.UnixSeconds() * 1000);
  next_.mutable_time()->set_seconds(unix_ms / 1000);
  next_.mutable_time()->set_nanos(static_cast<int32_t>(unix_ms % 1000 * 1000000));
  return true;
}

void WatchReactor::Pump() {
  absl::Status end;
  bool write = false;
  {
    const absl::MutexLock lock(&mutex_);
    if (writing_ || finished_) return;
    write = writing_ = ChooseNext();
    if (!write && !finished_) return;
    end = end_;
  }
  // Outside of the lock: gRPC may call back at once.
  if (write) {
    StartWrite(&next_);
  } else {
    dependencies_.metrics.RpcFinished("WatchJob", end.code(),
                                      dependencies_.clock.NowSeconds() - start_s_);
    Finish(ToGrpcStatus(end));
  }
}

void WatchReactor::OnWriteDone(bool ok) {
  {
    const absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) cancelled_ = true;
  }
  Pump();
}

void WatchReactor::OnCancel() {
  {
    const absl::MutexLock lock(&mutex_);
    cancelled_ = true;
  }
  Pump();
}

void WatchReactor::OnNews() { Pump(); }

void WatchReactor::OnDone() { const std::shared_ptr<WatchReactor> last = std::move(self_); }

}  // namespace imageddpo

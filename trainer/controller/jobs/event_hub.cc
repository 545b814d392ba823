#include "trainer/controller/jobs/event_hub.h"

#include <algorithm>

namespace imageddpo {
namespace {

constexpr uint64_t kListensPerSweep = 64;

}  // namespace

EventHub::EventHub(absl::Duration progress_interval)
    : progress_interval_(absl::ToChronoNanoseconds(progress_interval)) {
  thread_ = std::thread([this] { Dispatch(); });
}

EventHub::~EventHub() {
  {
    const absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  bell_.Put({});
  thread_.join();
}

void EventHub::Listen(const std::string& job_id, std::weak_ptr<Listener> listener) {
  const absl::MutexLock lock(&mutex_);
  if (++num_listens_ % kListensPerSweep == 0) {
    for (auto& [id, listeners] : listeners_) {
      std::erase_if(listeners, [](const auto& other) { return other.expired(); });
    }
    std::erase_if(listeners_, [](const auto& entry) { return entry.second.empty(); });
  }
  listeners_[job_id].push_back(std::move(listener));
}

void EventHub::EventsStored(const std::string& job_id) {
  {
    const absl::MutexLock lock(&mutex_);
    news_.insert(job_id);
  }
  bell_.Put({});
}

void EventHub::SetProgress(const std::string& job_id, const v1::JobProgress& progress) {
  {
    const absl::MutexLock lock(&mutex_);
    JobProgress& entry = progress_[job_id];
    entry.newest = progress;
    if (std::exchange(entry.unpublished, true)) return;  // The thread knows already.
  }
  bell_.Put({});
}

void EventHub::SetReason(const std::string& job_id, const std::string& reason) {
  const absl::MutexLock lock(&mutex_);
  if (reason.empty()) {
    reasons_.erase(job_id);
    wait_reasons_.erase(job_id);
  } else {
    reasons_[job_id] = reason;
  }
}

std::string EventHub::Reason(const std::string& job_id) const {
  const absl::MutexLock lock(&mutex_);
  const auto reason = reasons_.find(job_id);
  if (reason != reasons_.end()) return reason->second;
  const auto waits = wait_reasons_.find(job_id);
  return waits == wait_reasons_.end() ? "" : waits->second;
}

void EventHub::SetWaitReasons(std::map<std::string, std::string> reasons) {
  const absl::MutexLock lock(&mutex_);
  wait_reasons_.swap(reasons);
}

void EventHub::ClearProgress(const std::string& job_id) {
  const absl::MutexLock lock(&mutex_);
  progress_.erase(job_id);
}

std::optional<v1::JobProgress> EventHub::Progress(const std::string& job_id) const {
  const absl::MutexLock lock(&mutex_);
  const auto entry = progress_.find(job_id);
  if (entry == progress_.end()) return std::nullopt;
  return entry->second.newest;
}

std::optional<EventHub::Published> EventHub::PublishedProgress(const std::string& job_id) const {
  const absl::MutexLock lock(&mutex_);
  const auto entry = progress_.find(job_id);
  if (entry == progress_.end() || entry->second.published.version == 0) return std::nullopt;
  return entry->second.published;
}

void EventHub::Close() {
  {
    const absl::MutexLock lock(&mutex_);
    closed_ = true;
    for (const auto& [job_id, listeners] : listeners_) news_.insert(job_id);
  }
  bell_.Put({});
}

bool EventHub::closed() const {
  const absl::MutexLock lock(&mutex_);
  return closed_;
}

bool EventHub::IsDue(const JobProgress& entry, SteadyTime now) const {
  return entry.unpublished &&
         (!entry.last_published.has_value() || now - *entry.last_published >= progress_interval_);
}

absl::Duration EventHub::TimeToNextDue() const {
  const absl::MutexLock lock(&mutex_);
  const SteadyTime now = std::chrono::steady_clock::now();
  absl::Duration wait = absl::InfiniteDuration();
  for (const auto& [job_id, entry] : progress_) {
    if (IsDue(entry, now)) return absl::ZeroDuration();
    if (!entry.unpublished) continue;
    wait = std::min(wait, absl::FromChrono(*entry.last_published + progress_interval_ - now));
  }
  return wait;
}

std::vector<std::shared_ptr<EventHub::Listener>> EventHub::TakeListeners(SteadyTime now) {
  for (auto& [job_id, entry] : progress_) {
    if (!IsDue(entry, now)) continue;
    entry.published = Published{++last_version_, entry.newest};
    entry.unpublished = false;
    entry.last_published = now;
    news_.insert(job_id);
  }
  std::vector<std::shared_ptr<Listener>> taken;
  for (const std::string& job_id : news_) {
    const auto listeners = listeners_.find(job_id);
    if (listeners == listeners_.end()) continue;
    std::erase_if(listeners->second, [&](const std::weak_ptr<Listener>& weak) {
      std::shared_ptr<Listener> listener = weak.lock();
      if (listener == nullptr) return true;
      taken.push_back(std::move(listener));
      return false;
    });
    if (listeners->second.empty()) listeners_.erase(listeners);
  }
  news_.clear();
  return taken;
}

void EventHub::Dispatch() {
  for (;;) {
    bell_.TakeAll(TimeToNextDue());
    std::vector<std::shared_ptr<Listener>> listeners;
    {
      const absl::MutexLock lock(&mutex_);
      if (stop_) return;
      listeners = TakeListeners(std::chrono::steady_clock::now());
    }
    for (const std::shared_ptr<Listener>& listener : listeners) listener->OnNews();
  }
}

}  // namespace imageddpo

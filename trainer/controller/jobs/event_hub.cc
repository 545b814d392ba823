#include "trainer/controller/jobs/event_hub.h"

#include <algorithm>

#include "absl/time/clock.h"

namespace imageddpo {
namespace {

constexpr uint64_t kListensPerSweep = 64;

}  // namespace

EventHub::EventHub(absl::Duration progress_interval) : progress_interval_(progress_interval) {
  thread_ = std::thread([this] { Dispatch(); });
}

EventHub::~EventHub() {
  {
    const absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
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
  const absl::MutexLock lock(&mutex_);
  news_.insert(job_id);
}

void EventHub::SetProgress(const std::string& job_id, const v1::JobProgress& progress) {
  const absl::MutexLock lock(&mutex_);
  JobProgress& entry = progress_[job_id];
  entry.newest = progress;
  entry.unpublished = true;
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
  const absl::MutexLock lock(&mutex_);
  closed_ = true;
  for (const auto& [job_id, listeners] : listeners_) news_.insert(job_id);
}

bool EventHub::closed() const {
  const absl::MutexLock lock(&mutex_);
  return closed_;
}

bool EventHub::HasWork() const {
  return stop_ || !news_.empty() ||
         std::any_of(progress_.begin(), progress_.end(),
                     [](const auto& entry) { return entry.second.unpublished; });
}

absl::Time EventHub::NextDue() const {
  absl::Time due = absl::InfiniteFuture();
  for (const auto& [job_id, entry] : progress_) {
    if (entry.unpublished) due = std::min(due, entry.last_published + progress_interval_);
  }
  return due;
}

std::vector<std::shared_ptr<EventHub::Listener>> EventHub::TakeListeners(absl::Time now) {
  for (auto& [job_id, entry] : progress_) {
    if (!entry.unpublished || now < entry.last_published + progress_interval_) continue;
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
    std::vector<std::shared_ptr<Listener>> listeners;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &EventHub::HasWork));
      if (stop_) return;
      if (news_.empty()) {  // Progress only: wait until it is due, or for something more urgent.
        const auto urgent = [](EventHub* hub) ABSL_EXCLUSIVE_LOCKS_REQUIRED(hub->mutex_) {
          return hub->stop_ || !hub->news_.empty();
        };
        mutex_.AwaitWithDeadline(absl::Condition(+urgent, this), NextDue());
        if (stop_) return;
      }
      listeners = TakeListeners(absl::Now());
    }
    for (const std::shared_ptr<Listener>& listener : listeners) listener->OnNews();
  }
}

}  // namespace imageddpo

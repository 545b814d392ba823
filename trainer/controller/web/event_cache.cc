#include "trainer/controller/web/event_cache.h"

#include <algorithm>
#include <utility>

namespace imageddpo {
namespace {

constexpr size_t kMaxJobs = 16;
constexpr int64_t kEventsAtOnce = 200;  // The controller's thread can use the store in between.

}  // namespace

absl::StatusOr<std::vector<v1::JobEvent>> EventCache::EventsOf(const std::string& job_id) {
  const absl::MutexLock lock(&mutex_);
  Entry& entry = entries_[job_id];
  entry.last_use = ++uses_;
  for (bool is_last = false; !is_last;) {
    absl::StatusOr<JobStore::EventPage> page =
        store_.Events(job_id, entry.next_event, kEventsAtOnce);
    if (!page.ok()) {
      entries_.erase(job_id);
      return page.status();
    }
    is_last = page->events.size() < kEventsAtOnce;
    for (v1::JobEvent& event : page->events) {
      entry.next_event = event.number() + 1;
      if (event.has_epoch() || event.has_eval()) entry.events.push_back(std::move(event));
    }
  }
  std::vector<v1::JobEvent> events = entry.events;
  MakeRoom();
  return events;
}

void EventCache::MakeRoom() {
  while (entries_.size() > kMaxJobs) {
    entries_.erase(std::min_element(
        entries_.begin(), entries_.end(),
        [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; }));
  }
}

}  // namespace imageddpo

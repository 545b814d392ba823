#include "trainer/controller/streams/file_thread.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

namespace imageddpo {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(250);

}  // namespace

FileThread::FileThread() : thread_([this] { Loop(); }) {}

FileThread::~FileThread() {
  steps_.Close();
  thread_.join();
}

void FileThread::Loop() {
  using Time = std::chrono::steady_clock::time_point;
  Time later_due;
  while (true) {
    absl::Duration timeout = absl::InfiniteDuration();
    if (!later_.empty()) {
      timeout = std::max(absl::ZeroDuration(),
                         absl::FromChrono(later_due - std::chrono::steady_clock::now()));
    }
    const std::optional<Step> step = steps_.Take(timeout);
    const bool had_later = !later_.empty();
    if (step.has_value()) {
      (*step)();
    } else if (steps_.closed()) {
      return;
    }
    const Time now = std::chrono::steady_clock::now();
    if (had_later && now >= later_due) {
      for (const Step& waiting : std::exchange(later_, {})) waiting();
      later_due = now + absl::ToChronoNanoseconds(kPause);
    } else if (!had_later) {
      later_due = now + absl::ToChronoNanoseconds(kPause);
    }
  }
}

bool CallerPlaces::Take(const std::string& owner) {
  const absl::MutexLock lock(&mutex_);
  int& calls = calls_by_owner_[owner];
  if (calls >= max_per_caller_) return false;
  ++calls;
  return true;
}

void CallerPlaces::GiveBack(const std::string& owner) {
  const absl::MutexLock lock(&mutex_);
  const auto entry = calls_by_owner_.find(owner);
  if (--entry->second == 0) calls_by_owner_.erase(entry);
}

}  // namespace imageddpo

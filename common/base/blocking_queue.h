#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace imageddpo {

/// A queue from many threads to one, first in, first out. It has no bound: Put() never waits, so
/// that a thread that must not block can hand something to a thread that does. Thread-safe.
template <typename T>
class BlockingQueue {
 public:
  /// Appends an item and wakes the thread that waits.
  /// @return false: the queue is closed, and the item was dropped.
  bool Put(T item) {
    const absl::MutexLock lock(&mutex_);
    if (!closed_) items_.push_back(std::move(item));
    return !closed_;
  }

  /// The oldest item; waits for one up to `timeout`, but not once the queue is closed.
  /// @return nullopt: there was none.
  std::optional<T> Take(absl::Duration timeout) {
    const absl::MutexLock lock(&mutex_);
    AwaitNews(timeout);
    if (items_.empty()) return std::nullopt;
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

  /// All items, oldest first; waits for the first as Take() does. Empty: there was none.
  std::deque<T> TakeAll(absl::Duration timeout) {
    const absl::MutexLock lock(&mutex_);
    AwaitNews(timeout);
    return std::exchange(items_, {});
  }

  /// Accepts nothing more and wakes the thread that waits. What is queued can still be taken.
  void Close() {
    const absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

  bool closed() const {
    const absl::MutexLock lock(&mutex_);
    return closed_;
  }

 private:
  void AwaitNews(absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto news = [this]()
                          ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return closed_ || !items_.empty(); };
    mutex_.AwaitWithTimeout(absl::Condition(&news), timeout);
  }

  mutable absl::Mutex mutex_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace imageddpo

#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/time/time.h"

namespace imageddpo {

/// A queue from many threads to one, first in, first out. It has no bound: Put() never waits, so
/// that a thread that must not block can hand something to a thread that does. Timeouts count on
/// the steady clock; those of absl::Mutex would last longer when the host's clock is set back.
/// Thread-safe.
template <typename T>
class BlockingQueue {
 public:
  /// Appends an item and wakes the thread that waits.
  /// @return false: the queue is closed, and the item was dropped.
  bool Put(T item) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    items_.push_back(std::move(item));
    news_.notify_one();
    return true;
  }

  /// The oldest item; waits for one up to `timeout`, but not once the queue is closed.
  /// @return nullopt: there was none.
  std::optional<T> Take(absl::Duration timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    AwaitNews(lock, timeout);
    if (items_.empty()) return std::nullopt;
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

  /// All items, oldest first; waits for the first as Take() does. Empty: there was none.
  std::deque<T> TakeAll(absl::Duration timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    AwaitNews(lock, timeout);
    return std::exchange(items_, {});
  }

  /// Accepts nothing more and wakes the thread that waits. What is queued can still be taken.
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    news_.notify_all();
  }

  bool closed() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return closed_;
  }

 private:
  void AwaitNews(std::unique_lock<std::mutex>& lock, absl::Duration timeout) {
    constexpr absl::Duration kForever =
        absl::Hours(24 * 365);  // More would overflow in wait_for().
    news_.wait_for(lock, absl::ToChronoNanoseconds(std::min(timeout, kForever)),
                   [this] { return closed_ || !items_.empty(); });
  }

  mutable std::mutex mutex_;  // Guards all below.
  std::condition_variable news_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace imageddpo

#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace imageddpo {

/// A queue from many threads to one. Thread-safe.
template <typename T>
class BlockingQueue {
 public:
  void Put(T item) {
    const absl::MutexLock lock(&mutex_);
    items_.push_back(std::move(item));
  }

  /// The oldest item; nothing came within `timeout`: nullopt.
  std::optional<T> Take(absl::Duration timeout) {
    const absl::MutexLock lock(&mutex_);
    const auto has_items = [](std::deque<T>* items) { return !items->empty(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(+has_items, &items_), timeout))
      return std::nullopt;
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

 private:
  absl::Mutex mutex_;
  std::deque<T> items_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo

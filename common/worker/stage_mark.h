#pragma once

#include <atomic>
#include <cstdint>

namespace imageddpo {

/// What a job's thread works on, for a thread that watches it: one item after the other, as a
/// micro-batch, each of a stage. While the job's thread waits for other ranks or for a reward
/// service, which have deadlines of their own, it works on nothing. Written by the job's thread
/// alone; thread-safe.
class StageMark {
 public:
  /// One item, from its start to its end. Items do not nest.
  class Item {
   public:
    /// @param mark   may be null: nobody watches. @param stage  a literal, as "sampling".
    Item(StageMark* mark, const char* stage) : mark_(mark) {
      if (mark_ != nullptr) mark_->Set(stage);
    }
    ~Item() {
      if (mark_ != nullptr) mark_->Set(nullptr);
    }
    Item(const Item&) = delete;
    Item& operator=(const Item&) = delete;

   private:
    StageMark* mark_;
  };

  const char* stage() const { return stage_.load(std::memory_order_acquire); }  ///< Or null.
  /// Differs from item to item. Read it before stage(), which is then not that of an older item.
  uint64_t number() const { return number_.load(std::memory_order_acquire); }

 private:
  void Set(const char* stage) {
    stage_.store(stage, std::memory_order_release);
    number_.fetch_add(1, std::memory_order_acq_rel);  // Last: who sees it sees the stage too.
  }

  std::atomic<const char*> stage_{nullptr};
  std::atomic<uint64_t> number_{0};
};

}  // namespace imageddpo

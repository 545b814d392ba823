// Abseil's locks as ThreadSanitizer sees them. The system's Abseil is built without it, and its
// locks wait in the kernel by calls of their own: whatever they guard would look like a race. This
// library, loaded before all others in a run of the preset tsan (run.sh), stands in front of each
// call and says what happens after what; the call itself is Abseil's. Conditions are looked at
// inside of the calls, by whichever thread holds the lock: those reads are passed over.
#include <dlfcn.h>

#include <string>

#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

extern "C" {
// Of the sanitizer. Weak: mpirun, Python and other programs of a run have none.
[[gnu::weak]] void __tsan_acquire(void* address);
[[gnu::weak]] void __tsan_release(void* address);
[[gnu::weak]] void AnnotateIgnoreReadsBegin(const char* file, int line);
[[gnu::weak]] void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

#define ABSL_MUTEX_TEXT_(name) #name
#define ABSL_MUTEX_TEXT(name) ABSL_MUTEX_TEXT_(name)

/// The function that would have been called. @param rest  its mangled name behind absl's inline
/// name space.
template <typename Function>
Function* Real(const char* constness, const char* rest) {
  const std::string space = ABSL_MUTEX_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const std::string name =
      std::string("_ZN") + constness + "4absl" + std::to_string(space.size()) + space + rest;
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name.c_str()));
}

void Acquired(const void* lock) {
  if (__tsan_acquire != nullptr) __tsan_acquire(const_cast<void*>(lock));
}

void Releases(const void* lock) {
  if (__tsan_release != nullptr) __tsan_release(const_cast<void*>(lock));
}

class WithoutReads {
 public:
  WithoutReads() {
    if (AnnotateIgnoreReadsBegin != nullptr) AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  }
  ~WithoutReads() {
    if (AnnotateIgnoreReadsEnd != nullptr) AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static auto* const real = Real<void(Mutex*)>("", "5Mutex4LockEv");
  real(this);
  Acquired(this);
}

bool Mutex::TryLock() {
  static auto* const real = Real<bool(Mutex*)>("", "5Mutex7TryLockEv");
  const bool is_held = real(this);
  if (is_held) Acquired(this);
  return is_held;
}

void Mutex::Unlock() {
  static auto* const real = Real<void(Mutex*)>("", "5Mutex6UnlockEv");
  Releases(this);
  const WithoutReads none;
  real(this);
}

void Mutex::ReaderLock() {
  static auto* const real = Real<void(Mutex*)>("", "5Mutex10ReaderLockEv");
  real(this);
  Acquired(this);
}

void Mutex::ReaderUnlock() {
  static auto* const real = Real<void(Mutex*)>("", "5Mutex12ReaderUnlockEv");
  Releases(this);
  const WithoutReads none;
  real(this);
}

void Mutex::Await(const Condition& condition) {
  static auto* const real =
      Real<void(Mutex*, const Condition&)>("", "5Mutex5AwaitERKNS0_9ConditionE");
  Releases(this);
  {
    const WithoutReads none;
    real(this, condition);
  }
  Acquired(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static auto* const real = Real<bool(Mutex*, const Condition&, Duration)>(
      "", "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
  Releases(this);
  bool holds = false;
  {
    const WithoutReads none;
    holds = real(this, condition, timeout);
  }
  Acquired(this);
  return holds;
}

void Mutex::LockWhen(const Condition& condition) {
  static auto* const real =
      Real<void(Mutex*, const Condition&)>("", "5Mutex8LockWhenERKNS0_9ConditionE");
  {
    const WithoutReads none;
    real(this, condition);
  }
  Acquired(this);
}

void CondVar::Wait(Mutex* mutex) {
  static auto* const real = Real<void(CondVar*, Mutex*)>("", "7CondVar4WaitEPNS0_5MutexE");
  Releases(mutex);
  real(this, mutex);
  Acquired(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static auto* const real = Real<bool(CondVar*, Mutex*, Duration)>(
      "", "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  Releases(mutex);
  const bool is_over = real(this, mutex, timeout);
  Acquired(mutex);
  return is_over;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static auto* const real =
      Real<bool(CondVar*, Mutex*, Time)>("", "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  Releases(mutex);
  const bool is_over = real(this, mutex, deadline);
  Acquired(mutex);
  return is_over;
}

void Notification::Notify() {
  static auto* const real = Real<void(Notification*)>("", "12Notification6NotifyEv");
  Releases(this);
  real(this);
}

void Notification::WaitForNotification() const {
  static auto* const real =
      Real<void(const Notification*)>("K", "12Notification19WaitForNotificationEv");
  real(this);
  Acquired(this);
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static auto* const real = Real<bool(const Notification*, Duration)>(
      "K", "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE");
  const bool is_notified = real(this, timeout);
  if (is_notified) Acquired(this);
  return is_notified;
}

ABSL_NAMESPACE_END
}  // namespace absl

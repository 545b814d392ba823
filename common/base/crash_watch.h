#pragma once

#include <csignal>
#include <memory>

namespace imageddpo {

/// Lets a process say which signal ends it. A signal that comes from a fault of the program
/// (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS) is kept back for half a second in the thread
/// it hit, in which Signal() tells the other threads; then it does what it always does. SIGKILL
/// cannot be seen. Built once, in main; at most one may exist at a time.
class CrashWatch {
 public:
  CrashWatch();
  ~CrashWatch();  ///< Puts the former handlers back.
  CrashWatch(const CrashWatch&) = delete;
  CrashWatch& operator=(const CrashWatch&) = delete;

  /// The signal that is about to end this process; 0: none.
  int Signal() const;

  /// A stack for the handler, so that a thread whose own is used up is heard as well. Made and
  /// destroyed by the thread that it is for.
  class ThreadStack {
   public:
    ThreadStack();
    ~ThreadStack();
    ThreadStack(const ThreadStack&) = delete;
    ThreadStack& operator=(const ThreadStack&) = delete;

   private:
    const std::unique_ptr<char[]> memory_;
    stack_t previous_ = {};
  };

 private:
  struct sigaction previous_[6] = {};
};

}  // namespace imageddpo

#pragma once

#include <csignal>
#include <memory>

namespace imageddpo {

/// Lets a process report the signal that is about to end it. A signal from a fault of the program
/// (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS) is delayed for half a second in the thread it
/// hit; meanwhile Signal() returns it to the other threads. Then it has its usual effect. SIGKILL
/// cannot be seen. Created once, in main; at most one may exist at a time.
class CrashWatch {
 public:
  CrashWatch();
  ~CrashWatch();  ///< Puts the former handlers back.
  CrashWatch(const CrashWatch&) = delete;
  CrashWatch& operator=(const CrashWatch&) = delete;

  /// The signal that is about to end this process; 0: none.
  int Signal() const;

  /// A stack for the signal handler, so that a stack overflow is reported too. Created and
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

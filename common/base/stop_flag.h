#pragma once

#include <csignal>

namespace imageddpo {

/// Turns SIGINT and SIGTERM into a flag that loops check, so that a program can save its state and
/// exit with 128 + signal. Created once, in main; at most one may exist at a time, since a process
/// has one handler per signal. The constructor installs the handlers, the destructor restores the
/// former ones. A second signal of the same kind, while the flag is set, ends the process at once.
class StopFlag {
 public:
  StopFlag();
  ~StopFlag();
  StopFlag(const StopFlag&) = delete;
  StopFlag& operator=(const StopFlag&) = delete;

  /// Whether a signal or Request() asked for the end. Safe from any thread.
  bool Requested() const;

  /// The first signal that came; 0 when none did.
  int Signal() const;

  /// What the program should exit with: 128 + Signal(), or 0 when no signal came.
  int ExitCode() const { return Signal() == 0 ? 0 : 128 + Signal(); }

  /// Asks for the end without a signal, e.g. after a fatal error of another thread.
  void Request();

 private:
  struct sigaction previous_int_ = {};
  struct sigaction previous_term_ = {};
};

}  // namespace imageddpo

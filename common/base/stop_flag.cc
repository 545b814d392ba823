#include "common/base/stop_flag.h"

#include <atomic>
#include <stdexcept>

namespace imageddpo {
namespace {

// A signal handler has no other way to reach its object: the one exception to "no process-wide
// state".
constexpr int kNotRequested = -1;
std::atomic<int> g_signal{kNotRequested};  // 0: requested without a signal.
std::atomic<bool> g_installed{false};
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

extern "C" void ImageddpoHandleStopSignal(int signal_number) {
  int expected = kNotRequested;
  g_signal.compare_exchange_strong(expected, signal_number);
}

void Install(int signal_number, struct sigaction* previous) {
  struct sigaction action = {};
  action.sa_handler = ImageddpoHandleStopSignal;
  sigemptyset(&action.sa_mask);
  // The handler works once: a user who presses Ctrl-C twice wants out. No SA_RESTART: blocking
  // system calls return EINTR, so that a waiting loop sees the flag.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(signal_number, &action, previous);
}

}  // namespace

StopFlag::StopFlag() {
  if (g_installed.exchange(true)) {
    throw std::logic_error("StopFlag: another one exists in this process");
  }
  g_signal.store(kNotRequested);
  Install(SIGINT, &previous_int_);
  Install(SIGTERM, &previous_term_);
}

StopFlag::~StopFlag() {
  sigaction(SIGINT, &previous_int_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
  g_installed.store(false);
}

bool StopFlag::Requested() const { return g_signal.load() != kNotRequested; }

int StopFlag::Signal() const {
  const int signal_number = g_signal.load();
  return signal_number == kNotRequested ? 0 : signal_number;
}

void StopFlag::Request() {
  int expected = kNotRequested;
  g_signal.compare_exchange_strong(expected, 0);
}

}  // namespace imageddpo

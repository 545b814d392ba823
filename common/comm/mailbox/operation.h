#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/comm/mailbox/transfer.h"

namespace imageddpo {

/// A communicator's operation as rounds of transfers: when all transfers of a round are done, the
/// next round starts. Thread-compatible.
class Operation {
 public:
  /// Starts the transfers of round `round` (0, 1, …), or returns none after the last round; work
  /// that follows the last transfers (sums, copies) is done there too.
  using Round = std::function<std::vector<std::shared_ptr<Transfer>>(int round)>;

  Operation(std::string what, Round round) : what_(std::move(what)), round_(std::move(round)) {}

  /// Moves on as far as it can without blocking. @return whether it has ended, well or not.
  bool Advance();

  /// Sleeps until one transfer of the current round is done or `timeout` has passed.
  void WaitForTransfer(std::chrono::nanoseconds timeout) const;

  /// @throws CommError  if the operation has failed.
  void ThrowIfFailed() const;

  /// For messages: what is waited for right now.
  std::string Describe() const;

 private:
  const std::string what_;
  Round round_;  // Released at the end, and with it the tensors.
  int next_round_ = 0;
  std::vector<std::shared_ptr<Transfer>> pending_;
  bool ended_ = false;
  std::exception_ptr error_;
};

}  // namespace imageddpo

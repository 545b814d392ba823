#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/comm/mailbox/transfer.h"

namespace imageddpo {

/// An operation of a communicator as a sequence of rounds of transfers: when all transfers of a
/// round are done, the next round starts. Thread-compatible.
class Operation {
 public:
  /// Starts and returns the transfers of round 0, 1, …; returns none after the last round. Also
  /// does the local work (sums, copies) on what the round before has transferred.
  using Round = std::function<std::vector<std::shared_ptr<Transfer>>(int round)>;

  Operation(std::string what, Round round) : what_(std::move(what)), round_(std::move(round)) {}

  /// Makes progress without blocking. @return whether the operation has ended, well or not.
  bool Advance();

  /// Blocks until one transfer of the current round is done or `timeout` has passed.
  void WaitForTransfer(std::chrono::nanoseconds timeout) const;

  /// @throws CommError  if the operation has failed.
  void ThrowIfFailed() const;

  /// For error texts: what the operation waits for.
  std::string Describe() const;

 private:
  const std::string what_;
  Round round_;  // Released at the end, together with the tensors.
  int next_round_ = 0;
  std::vector<std::shared_ptr<Transfer>> pending_;
  bool ended_ = false;
  std::exception_ptr error_;
};

}  // namespace imageddpo

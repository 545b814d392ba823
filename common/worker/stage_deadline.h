#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace imageddpo {

/// Tells that a job's thread hangs: an item of a stage (StageMark) takes much longer than any item
/// of that stage has taken in this job.
///
///   limit = max_seconds                                   for the first item of a stage
///           min(max_seconds, max(60 s, 10 · longest))     afterwards
///
/// Thread-compatible.
class StageDeadline {
 public:
  static constexpr double kShortestSeconds = 60;
  static constexpr double kTimesTheLongest = 10;

  /// @param max_seconds  0: there is no limit.
  explicit StageDeadline(double max_seconds) : max_seconds_(max_seconds) {}

  struct Hang {
    std::string stage;
    double seconds = 0;  ///< For which the item has been under way.
    double limit = 0;
  };
  /// What the job's thread works on now. @param stage  null: nothing. @param number  of the item.
  /// @param seconds  since the last look, without those in which this process was stopped.
  std::optional<Hang> Look(const char* stage, uint64_t number, double seconds);

 private:
  const double max_seconds_;
  std::string stage_;  ///< Of the item that the last look saw; empty: none.
  uint64_t number_ = 0;
  double seconds_ = 0;
  std::map<std::string, double> longest_;  ///< By stage: of the items that are done.
};

}  // namespace imageddpo

#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// What the client knows of a job that it watches, and how it is shown. Pure text: no clock, no
/// terminal.
class ProgressLine {
 public:
  /// @param job  as it was when watching began.
  explicit ProgressLine(const v1::Job& job);

  /// Takes an event in.
  void Add(const v1::JobEvent& event);

  /// One line for a terminal, at most `width` columns; parts that do not fit are left out:
  /// "deblur ████▌    12/80  sampling 64/128  reward 1.53 ▁▂▃▅▆  3m12s left  38.1 images/s", then
  /// the newest epoch's parts of the reward and seconds of its stages.
  std::string ForTerminal(size_t width) const;

  /// The event, already taken in, as a line of a log; empty where there is nothing to say. Progress
  /// reads "epoch 12/80  sampling 64/128"; the caller decides how much of it a log gets.
  std::string ForLog(const v1::JobEvent& event) const;

  v1::JobState state() const { return state_; }
  const std::string& state_reason() const { return state_reason_; }
  bool has_epochs() const { return !rewards_.empty(); }
  double first_reward() const { return rewards_.begin()->second; }
  double last_reward() const { return rewards_.rbegin()->second; }

 private:
  std::vector<std::string> Stage() const;
  std::string EpochText(const v1::EpochMetrics& epoch) const;

  const std::string job_id_;
  const std::string job_name_;
  v1::JobState state_ = v1::JOB_STATE_UNSPECIFIED;
  std::string state_reason_;
  v1::JobProgress progress_;
  std::map<int64_t, double> rewards_;  ///< By epoch: those after a resume replace those before.
};

}  // namespace imageddpo

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/worker/range_marks.h"

namespace imageddpo {

/// When a rank did what, over some epochs of a job, in the form that Perfetto and Chrome show
/// (chrome://tracing). Times are those of the wall clock, so that the files of several ranks fit
/// together. Request() may be called by any thread; everything else by the job's.
class SpanLog {
 public:
  /// @param clock  outlives the log. @param world_rank  the traces' "process".
  /// @param marks  is told of every span, whether a trace is made or not; may be null.
  SpanLog(const Clock& clock, int world_rank, const RangeMarks* marks = nullptr)
      : clock_(clock), world_rank_(world_rank), marks_(marks) {}

  struct Trace {
    std::string folder;  ///< Of the request.
    std::string json;
  };

  /// Asks for a trace of the next epochs, in place of one that was asked for and has not begun.
  void Request(std::string folder, int64_t num_epochs);

  /// Between two epochs; before the first one and after the last one too. Begins and ends traces.
  /// @param is_last  no epoch follows. @return the trace that has just ended.
  std::optional<Trace> NextEpoch(bool is_last = false);

  /// From here to the end of its scope. Costs next to nothing while no trace is made.
  class Span {
   public:
    /// @param log  may be null. @param name  lives for ever.
    Span(SpanLog* log, const char* name)
        : log_(log != nullptr && log->traces() ? log : nullptr),
          name_(name),
          start_s_(log_ != nullptr ? log_->clock_.NowSeconds() : 0),
          marks_(log != nullptr ? log->marks_ : nullptr) {
      if (marks_ != nullptr) marks_->Begin(name_);
    }
    ~Span() {
      if (marks_ != nullptr) marks_->End();
      if (log_ != nullptr) log_->Add(name_, start_s_);
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    SpanLog* const log_;
    const char* const name_;
    const double start_s_;
    const RangeMarks* const marks_;
  };

 private:
  struct Wanted {
    std::string folder;
    int64_t num_epochs = 0;
  };
  struct Done {
    const char* name;
    double start_s, end_s;  ///< Of Clock::NowSeconds().
  };
  bool traces() const { return current_.has_value(); }
  void Add(const char* name, double start_s);
  std::string Json() const;

  const Clock& clock_;
  const int world_rank_;
  const RangeMarks* const marks_;
  std::optional<Wanted> current_;  ///< num_epochs: that are left.
  std::vector<Done> spans_;
  absl::Mutex mutex_;
  std::optional<Wanted> wanted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageddpo

#pragma once

#include "common/worker/span_log.h"
#include "common/worker/stage_mark.h"

namespace imageddpo {

/// Who follows what a job's thread does. Null: nobody.
struct Followers {
  SpanLog* spans = nullptr;    ///< Notes what it does when, for traces.
  StageMark* stage = nullptr;  ///< Tells what it works on now, so that a hang is noticed.
};

/// One item of a job's work, from here to the end of its scope, told to both followers. Items do
/// not nest.
class WorkItem {
 public:
  /// @param stage  of StageMark. @param span  of SpanLog. Both live for ever.
  WorkItem(const Followers& followers, const char* stage, const char* span)
      : span_(followers.spans, span), item_(followers.stage, stage) {}

 private:
  const SpanLog::Span span_;
  const StageMark::Item item_;
};

}  // namespace imageddpo

#include "common/worker/span_log.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr size_t kMostSpans = 100'000;  // About 10 MB.

int64_t Microseconds(double seconds) { return std::llround(seconds * 1e6); }

}  // namespace

void SpanLog::Request(std::string folder, int64_t num_epochs) {
  const absl::MutexLock lock(&mutex_);
  wanted_ = Wanted{std::move(folder), num_epochs};
}

std::optional<SpanLog::Trace> SpanLog::NextEpoch(bool is_last) {
  std::optional<Trace> ended;
  if (current_ && (--current_->num_epochs <= 0 || is_last)) {
    ended = Trace{current_->folder, Json()};
    current_.reset();
    spans_.clear();
  }
  const absl::MutexLock lock(&mutex_);
  if (!current_ && !is_last) current_ = std::exchange(wanted_, std::nullopt);
  return ended;
}

void SpanLog::Add(const char* name, double start_s) {
  if (spans_.size() < kMostSpans) spans_.push_back({name, start_s, clock_.NowSeconds()});
}

std::string SpanLog::Json() const {
  const double to_unix_s = clock_.UnixSeconds() - clock_.NowSeconds();
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  events.push_back({{"name", "process_name"},
                    {"ph", "M"},
                    {"pid", world_rank_},
                    {"args", {{"name", absl::StrCat("rank ", world_rank_)}}}});
  for (const Done& span : spans_) {
    events.push_back({{"name", span.name},
                      {"ph", "X"},
                      {"ts", Microseconds(span.start_s + to_unix_s)},
                      {"dur", Microseconds(span.end_s - span.start_s)},
                      {"pid", world_rank_},
                      {"tid", 0}});
  }
  return nlohmann::ordered_json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}
             .dump() +
         '\n';
}

}  // namespace imageddpo

#include "trainer/controller/streams/log_streams.h"

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "trainer/controller/files/log_filter.h"
#include "trainer/controller/files/log_reader.h"
#include "trainer/controller/streams/file_call.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxMessageBytes = 1 << 20;  // More than LogReader::Read() reads at once.

/// Whether there may be news of a job: only then its state has to be read.
class News final : public EventHub::Listener {
 public:
  void OnNews() override { is_there_.store(true); }
  bool Take() { return is_there_.exchange(false); }

 private:
  std::atomic<bool> is_there_ = true;
};

class LogStream final : public FileCall<v1::StreamLogsResponse> {
 public:
  LogStream(const Parts& parts, const std::string& owner, const JobStore& store, EventHub& hub,
            const v1::StreamLogsRequest& request)
      : FileCall(parts, owner),
        store_(store),
        hub_(hub),
        request_(request),
        reader_(store.JobDir(request.id())) {}

 private:
  void Step() override {
    absl::Status status = is_begun_ ? absl::OkStatus() : Prepare();
    is_begun_ = true;
    const bool looks_for_tail = tail_ > 0 && !is_at_end_;
    if (status.ok() && (lines_.empty() || looks_for_tail)) status = ReadMore();
    if (!status.ok()) return End(status);
    if (!lines_.empty() && (tail_ == 0 || is_at_end_)) return Send();
    if (!is_at_end_) return Continue();
    tail_ = 0;  // There was none: what comes is sent as it comes.
    if (!request_.follow() || job_has_ended_) return End(absl::OkStatus());
    is_at_end_ = false;
    if (hub_.closed()) {
      return End(WithReason(
          absl::UnavailableError("the service is ending; ask again with the last `cursor`"),
          Reason::kNotReady));
    }
    // Its last lines may still be on their way to the disk: one more look.
    const bool runs = hub_.Progress(request_.id()).has_value();  // Its progress is news too.
    if (!runs && news_->Take()) {
      const absl::StatusOr<JobRecord> record = store_.Get(request_.id());
      job_has_ended_ = !record.ok() || IsFinal(record->job.state());
    }
    ContinueLater();
  }

  absl::Status Prepare() {
    IMAGEDDPO_RETURN_IF_ERROR(store_.Get(request_.id()).status());
    if (request_.follow()) hub_.Listen(request_.id(), news_);
    IMAGEDDPO_ASSIGN_OR_RETURN(filter_, LogFilter::Of(request_));
    tail_ = filter_.tail();
    if (!request_.cursor().empty()) return reader_.GoTo(request_.cursor());
    return absl::OkStatus();
  }

  /// Appends the wanted ones of the next lines; of a tail keeps the last ones.
  absl::Status ReadMore() {
    if (is_at_end_) return absl::OkStatus();
    std::vector<v1::LogLine> read;
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool more, reader_.Read(&read));
    is_at_end_ = !more;
    for (v1::LogLine& line : read) {
      if (filter_.Wants(line)) lines_.push_back(std::move(line));
      if (tail_ > 0 && lines_.size() > static_cast<size_t>(tail_)) lines_.pop_front();
    }
    return absl::OkStatus();
  }

  void Send() {
    response_.Clear();
    for (size_t bytes = 0; !lines_.empty() && bytes < kMaxMessageBytes; lines_.pop_front()) {
      bytes += lines_.front().ByteSizeLong();
      *response_.add_lines() = std::move(lines_.front());
    }
    // The place after lines that are still to be sent would lose them.
    if (lines_.empty()) {
      tail_ = 0;
      response_.set_cursor(reader_.cursor());
    }
    StartWrite(&response_);
  }

  const JobStore& store_;
  EventHub& hub_;
  const std::shared_ptr<News> news_ = std::make_shared<News>();
  const v1::StreamLogsRequest request_;
  LogReader reader_;
  std::deque<v1::LogLine> lines_;  // To be sent.
  LogFilter filter_;
  int64_t tail_ =
      0;  // The last so many lines are being looked for; 0: lines are sent as they come.
  bool is_begun_ = false;
  bool is_at_end_ = false;
  bool job_has_ended_ = false;
  v1::StreamLogsResponse response_;  // Being sent.
};

}  // namespace

grpc::ServerWriteReactor<v1::StreamLogsResponse>* LogStreams::Start(
    const std::string& owner, const v1::StreamLogsRequest& request) {
  auto* const call = new LogStream({"StreamLogs", thread_, places_, metrics_, clock_}, owner,
                                   store_, hub_, request);
  call->Begin();
  return call;
}

}  // namespace imageddpo

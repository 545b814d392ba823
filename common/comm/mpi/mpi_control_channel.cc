#include "common/comm/mpi/mpi_control_channel.h"

#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "common/comm/frame.h"
#include "common/comm/valid_texts.h"

namespace imageddpo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxShownBytes = 64;  // Of a message that cannot be read.
constexpr std::uint64_t kControlPort = 1;
constexpr int kControllerRank = 0;
// A longer gap between two checks means that this process was stopped, not that workers are silent.
constexpr std::chrono::seconds kLongestLook{2};

/// Messages in order per sender; a large one under way does not hold up other senders.
class Inbox : public MpiMessenger::Port, public std::enable_shared_from_this<Inbox> {
 public:
  void OnMessage(int from, const MessageHeader& header, std::unique_ptr<Payload> payload) override {
    auto text = std::make_shared<std::string>(static_cast<std::size_t>(header.size_bytes), '\0');
    auto transfer = std::make_shared<Transfer>("control message", [weak = weak_from_this()] {
      if (const auto inbox = weak.lock()) {
        // Held once, so that the waiting thread does not miss it between its look and its sleep.
        const std::lock_guard<std::mutex> lock(inbox->mutex_);
        inbox->news_.notify_all();
      }
    });
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      messages_.push_back({from, text, transfer});
      last_heard_[from] = Clock::now();
    }
    payload->Fetch(absl::MakeSpan(*text), text, transfer);
  }

  void OnAbort(int /*from*/, const std::string& /*reason*/) override {}

  void OnRankLost(int world_rank, const std::string& reason) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    lost_.emplace(world_rank, reason);
  }

  std::optional<std::pair<int, std::shared_ptr<std::string>>> Receive(
      std::chrono::milliseconds timeout) {
    std::unique_lock<std::mutex> lock(mutex_);
    auto found = messages_.end();
    const auto ready = [this, &found] {
      found = FirstComplete();
      return found != messages_.end();
    };
    if (!news_.wait_for(lock, timeout, ready)) return std::nullopt;
    std::pair<int, std::shared_ptr<std::string>> result{found->from, found->text};
    messages_.erase(found);
    return result;
  }

  std::map<int, std::string> Lost() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return lost_;
  }

  std::map<int, Clock::time_point> LastHeard() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_heard_;
  }

 private:
  struct Message {
    int from;
    std::shared_ptr<std::string> text;
    std::shared_ptr<Transfer> transfer;
  };

  /// The first complete message whose sender has no earlier incomplete one.
  std::list<Message>::iterator FirstComplete() {
    std::vector<int> waiting;
    for (auto message = messages_.begin(); message != messages_.end(); ++message) {
      if (std::find(waiting.begin(), waiting.end(), message->from) != waiting.end()) {
        continue;
      }
      if (message->transfer->Done()) {
        return message;
      }
      waiting.push_back(message->from);
    }
    return messages_.end();
  }

  mutable std::mutex mutex_;
  std::condition_variable news_;  // Its waits are measured by the steady clock.
  // Under mutex_.
  std::list<Message> messages_;
  std::map<int, std::string> lost_;
  std::map<int, Clock::time_point> last_heard_;
};

void SendMessage(MpiMessenger& messenger, int to, google::protobuf::Message& message) {
  MakeTextsValid(&message);
  // One that is too large even as a frame arrives empty, as one that cannot be read, so that its
  // job fails and does not wait for it.
  absl::StatusOr<std::string> frame = ToFrame(&message);
  auto text = std::make_shared<std::string>(frame.ok() ? *std::move(frame) : "");
  const MessageHeader header{.lane = MessageHeader::Lane::kBytes,
                             .size_bytes = static_cast<std::int64_t>(text->size())};
  const absl::Span<const char> bytes(*text);
  messenger.Send(to, kControlPort, header, bytes, std::move(text), nullptr);
}

class MpiControllerChannel : public ControllerChannel {
 public:
  MpiControllerChannel(MpiMessenger& messenger, const ControlChannelOptions& options)
      : messenger_(messenger), options_(options), last_look_(Clock::now()) {
    messenger_.Open(kControlPort, inbox_, /*busy=*/false);
    for (int rank = 1; rank < messenger_.world_size(); ++rank) {
      deadlines_[rank] = last_look_ + options_.first_message_timeout;
    }
  }
  ~MpiControllerChannel() override { messenger_.Close(kControlPort); }

  std::vector<int> worker_ranks() const override {
    std::vector<int> ranks;
    for (int rank = 1; rank < messenger_.world_size(); ++rank) {
      ranks.push_back(rank);
    }
    return ranks;
  }

  void Send(int world_rank, v1::ControllerMessage message) override {
    SendMessage(messenger_, world_rank, message);
  }

  std::optional<std::pair<int, v1::WorkerMessage>> Receive(
      std::chrono::milliseconds timeout) override {
    auto received = inbox_->Receive(timeout);
    if (!received.has_value()) {
      return std::nullopt;
    }
    std::pair<int, v1::WorkerMessage> result;
    result.first = received->first;
    if (!FromFrame(*received->second, &result.second).ok()) {
      v1::Unreadable& unreadable = *result.second.mutable_unreadable();
      unreadable.set_size_bytes(static_cast<int64_t>(received->second->size()));
      unreadable.set_first_bytes(received->second->substr(0, kMaxShownBytes));
    }
    return result;
  }

  std::vector<Failure> TakeFailures() override {
    absl::MutexLock lock(&mutex_);
    const auto now = Clock::now();
    const auto stopped = std::max<Clock::duration>(now - last_look_ - kLongestLook, {});
    last_look_ = now;
    std::vector<Failure> failures;
    const auto lost = inbox_->Lost();
    const auto last_heard = inbox_->LastHeard();
    for (auto deadline = deadlines_.begin(); deadline != deadlines_.end();) {
      const int rank = deadline->first;
      deadline->second += stopped;
      const auto heard = last_heard.find(rank);
      if (heard != last_heard.end() && heard->second > last_seen_[rank]) {
        last_seen_[rank] = heard->second;
        deadline->second = heard->second + options_.heartbeat_timeout;
      }
      std::string reason;
      if (const auto found = lost.find(rank); found != lost.end()) {
        // A signal that it could handle would have been reported (CrashWatch).
        reason = found->second == MpiMessenger::kDied
                     ? "the process has died without a word, as of signal 9 (SIGKILL)"
                     : found->second;
      } else if (now >= deadline->second) {
        reason = "no heartbeat for " + SilenceOf(rank, last_heard, now);
        messenger_.DeclareLost(rank, reason);
      }
      if (reason.empty()) {
        ++deadline;
      } else {
        failures.push_back({rank, reason});
        deadline = deadlines_.erase(deadline);
      }
    }
    return failures;
  }

 private:
  std::string SilenceOf(int rank, const std::map<int, Clock::time_point>& last_heard,
                        Clock::time_point now) const {
    const auto heard = last_heard.find(rank);
    const auto since = heard == last_heard.end() ? created_ : heard->second;
    return absl::StrFormat("%.1f s", std::chrono::duration<double>(now - since).count());
  }

  MpiMessenger& messenger_;
  const ControlChannelOptions options_;
  const Clock::time_point created_ = Clock::now();
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();

  absl::Mutex mutex_;
  std::map<int, Clock::time_point> deadlines_
      ABSL_GUARDED_BY(mutex_);  // Of ranks not reported yet.
  std::map<int, Clock::time_point> last_seen_ ABSL_GUARDED_BY(mutex_);  // What deadlines_ rests on.
  Clock::time_point last_look_ ABSL_GUARDED_BY(mutex_);
};

class MpiWorkerChannel : public WorkerChannel {
 public:
  explicit MpiWorkerChannel(MpiMessenger& messenger) : messenger_(messenger) {
    messenger_.Open(kControlPort, inbox_, /*busy=*/false);
  }
  ~MpiWorkerChannel() override { messenger_.Close(kControlPort); }

  int world_rank() const override { return messenger_.world_rank(); }

  void Send(v1::WorkerMessage message) override {
    SendMessage(messenger_, kControllerRank, message);
  }

  std::optional<v1::ControllerMessage> Receive(std::chrono::milliseconds timeout) override {
    auto received = inbox_->Receive(timeout);
    v1::ControllerMessage message;
    if (!received.has_value() || !FromFrame(*received->second, &message).ok()) {
      return std::nullopt;
    }
    return message;
  }

  bool ControllerFailed() override { return inbox_->Lost().count(kControllerRank) > 0; }

 private:
  MpiMessenger& messenger_;
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
};

}  // namespace

std::unique_ptr<ControllerChannel> MakeMpiControllerChannel(MpiMessenger& messenger,
                                                            const ControlChannelOptions& options) {
  return std::make_unique<MpiControllerChannel>(messenger, options);
}

std::unique_ptr<WorkerChannel> MakeMpiWorkerChannel(MpiMessenger& messenger) {
  return std::make_unique<MpiWorkerChannel>(messenger);
}

}  // namespace imageddpo

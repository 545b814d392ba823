#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/comm/mailbox/transfer.h"

namespace imageddpo {

/// What is known about a message besides its bytes.
struct MessageHeader {
  /// Separate name spaces for tags.
  enum class Lane : std::int32_t { kTensor, kBytes, kCollective, kGrant };

  Lane lane = Lane::kTensor;
  std::int32_t format = 0;  ///< Type of the bytes (a dtype, an operation); both ends must agree.
  std::int64_t tag = 0;
  std::int64_t size_bytes = 0;
};

/// The bytes of a message that has arrived. They are fetched once, or dropped by the destructor;
/// the sender's transfer completes in both cases.
class Payload {
 public:
  virtual ~Payload() = default;

  /// Writes the bytes to `into`, then completes or fails `transfer`. `into` has the header's size,
  /// and `owner` keeps it alive. Does not block; called at most once.
  virtual void Fetch(absl::Span<char> into, std::shared_ptr<void> owner,
                     std::shared_ptr<Transfer> transfer) = 0;
};

/// Carries messages out of a mailbox. Each transport has its own implementation.
class Link {
 public:
  virtual ~Link() = default;

  /// Starts to carry `bytes`, which `owner` keeps alive, to the mailbox of rank `to`; then
  /// completes or fails `transfer`. Messages to one rank arrive in the order of the calls. Does not
  /// block.
  virtual void Send(int to, const MessageHeader& header, absl::Span<const char> bytes,
                    std::shared_ptr<const void> owner, std::shared_ptr<Transfer> transfer) = 0;

  /// Makes the mailboxes of the other ranks fail, if the transport can.
  virtual void SendAbort(const std::string& reason) = 0;
};

/// Point-to-point messages of one rank within one group: pairs each arriving message with the
/// receive that waits for it, in order per sender, lane and tag. Thread-safe; nothing blocks.
class Mailbox {
 public:
  /// @param rank  0-based, < size.
  Mailbox(int rank, int size) : rank_(rank), size_(size) {}

  /// Call it once, before the first message.
  void SetLink(std::unique_ptr<Link> link) { link_ = std::move(link); }

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Starts to send `bytes`, which `owner` keeps alive. `to` may be this rank.
  std::shared_ptr<Transfer> Send(int to, const MessageHeader& header, absl::Span<const char> bytes,
                                 std::shared_ptr<const void> owner);

  /// Starts to receive exactly header.size_bytes into `into`. A message of another size or format
  /// fails the transfer.
  std::shared_ptr<Transfer> Receive(int from, const MessageHeader& header, absl::Span<char> into,
                                    std::shared_ptr<void> owner);

  /// Starts to receive a message of any size into `text`; header.size_bytes is not used.
  /// @param on_done  called once when the transfer is done, on the thread that completes or fails
  ///                 it, possibly with the mailbox locked: it must not call the mailbox.
  std::shared_ptr<Transfer> ReceiveText(int from, const MessageHeader& header,
                                        std::shared_ptr<std::string> text,
                                        std::function<void()> on_done = nullptr);

  /// Called by the transport when a message from rank `from` has arrived.
  void Deliver(int from, const MessageHeader& header, std::unique_ptr<Payload> payload);

  /// Fails all pending and all later transfers. Only the first call has an effect.
  void Fail(CommError::Kind kind, const std::string& message);

  /// Fail(kAborted) here and, through the link, on the other ranks.
  void Abort(const std::string& reason);

 private:
  using Key = std::tuple<int, MessageHeader::Lane, std::int64_t>;  // from, lane, tag
  struct Arrived {
    MessageHeader header;
    std::unique_ptr<Payload> payload;
  };
  struct Expected {
    MessageHeader header;
    absl::Span<char> into;
    std::shared_ptr<void> owner;
    std::shared_ptr<std::string> text;  // Not null: a message of any size.
    std::shared_ptr<Transfer> transfer;
  };
  struct Failure {
    CommError::Kind kind;
    std::string message;
  };

  std::shared_ptr<Transfer> Expect(int from, Expected expected, const char* verb,
                                   std::function<void()> on_done = nullptr);
  static void Pair(Arrived arrived, Expected expected);
  /// Remembers a transfer so that Fail() reaches it. After a failure: fails it at once.
  bool Track(const std::shared_ptr<Transfer>& transfer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int rank_;
  const int size_;
  std::unique_ptr<Link> link_;

  absl::Mutex mutex_;
  std::map<Key, std::deque<Arrived>> arrived_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, std::deque<Expected>> expected_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Transfer>> transfers_ ABSL_GUARDED_BY(mutex_);
  std::size_t prune_at_ ABSL_GUARDED_BY(mutex_) = 64;
  std::optional<Failure> failure_ ABSL_GUARDED_BY(mutex_);
  bool aborted_ ABSL_GUARDED_BY(mutex_) = false;
};

/// A payload in the memory of this process.
class LocalPayload : public Payload {
 public:
  LocalPayload(absl::Span<const char> bytes, std::shared_ptr<const void> owner,
               std::shared_ptr<Transfer> sent)
      : bytes_(bytes), owner_(std::move(owner)), sent_(std::move(sent)) {}
  ~LocalPayload() override { sent_->Complete(); }

  void Fetch(absl::Span<char> into, std::shared_ptr<void> owner,
             std::shared_ptr<Transfer> transfer) override;

 private:
  const absl::Span<const char> bytes_;
  const std::shared_ptr<const void> owner_;
  const std::shared_ptr<Transfer> sent_;
};

}  // namespace imageddpo

#include "common/comm/mailbox/mailbox.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

std::string Describe(const char* verb, int rank, const MessageHeader& header) {
  return absl::StrCat(verb, " rank ", rank,
                      header.lane == MessageHeader::Lane::kCollective ? " (collective " : " (tag ",
                      header.tag, ")");
}

}  // namespace

std::shared_ptr<Transfer> Mailbox::Send(int to, const MessageHeader& header,
                                        absl::Span<const char> bytes,
                                        std::shared_ptr<const void> owner) {
  auto transfer = std::make_shared<Transfer>(Describe("send to", to, header));
  {
    absl::MutexLock lock(&mutex_);
    if (!Track(transfer)) {
      return transfer;
    }
  }
  if (to == rank_) {
    Deliver(rank_, header, std::make_unique<LocalPayload>(bytes, std::move(owner), transfer));
  } else {
    link_->Send(to, header, bytes, std::move(owner), transfer);
  }
  return transfer;
}

std::shared_ptr<Transfer> Mailbox::Receive(int from, const MessageHeader& header,
                                           absl::Span<char> into, std::shared_ptr<void> owner) {
  return Expect(from, {.header = header, .into = into, .owner = std::move(owner)}, "receive from");
}

std::shared_ptr<Transfer> Mailbox::ReceiveText(int from, const MessageHeader& header,
                                               std::shared_ptr<std::string> text,
                                               std::function<void()> on_done) {
  return Expect(from, {.header = header, .text = std::move(text)}, "receive bytes from",
                std::move(on_done));
}

std::shared_ptr<Transfer> Mailbox::Expect(int from, Expected expected, const char* verb,
                                          std::function<void()> on_done) {
  auto transfer =
      std::make_shared<Transfer>(Describe(verb, from, expected.header), std::move(on_done));
  expected.transfer = transfer;
  std::optional<Arrived> arrived;
  {
    absl::MutexLock lock(&mutex_);
    if (!Track(transfer)) {
      return transfer;
    }
    const Key key{from, expected.header.lane, expected.header.tag};
    const auto found = arrived_.find(key);
    if (found == arrived_.end()) {
      expected_[key].push_back(std::move(expected));
      return transfer;
    }
    arrived = std::move(found->second.front());
    found->second.pop_front();
    if (found->second.empty()) {
      arrived_.erase(found);
    }
  }
  Pair(*std::move(arrived), std::move(expected));
  return transfer;
}

void Mailbox::Deliver(int from, const MessageHeader& header, std::unique_ptr<Payload> payload) {
  Arrived arrived{header, std::move(payload)};
  std::optional<Expected> expected;
  {
    absl::MutexLock lock(&mutex_);
    if (failure_.has_value()) {
      return;
    }
    const Key key{from, header.lane, header.tag};
    const auto found = expected_.find(key);
    if (found == expected_.end()) {
      arrived_[key].push_back(std::move(arrived));
      return;
    }
    expected = std::move(found->second.front());
    found->second.pop_front();
    if (found->second.empty()) {
      expected_.erase(found);
    }
  }
  Pair(std::move(arrived), *std::move(expected));
}

void Mailbox::Pair(Arrived arrived, Expected expected) {
  const MessageHeader& sent = arrived.header;
  if (sent.format != expected.header.format) {
    expected.transfer->Fail(
        CommError::Kind::kTransport,
        absl::StrCat("the ranks disagree on what is sent: format ", sent.format,
                     " arrived, format ", expected.header.format, " was expected"));
    return;
  }
  if (expected.text != nullptr) {
    expected.text->resize(static_cast<std::size_t>(sent.size_bytes));
    expected.into = absl::MakeSpan(*expected.text);
    expected.owner = expected.text;
  } else if (sent.size_bytes != expected.header.size_bytes) {
    expected.transfer->Fail(
        CommError::Kind::kTransport,
        absl::StrCat("the sender has ", sent.size_bytes, " bytes, the receiver expects ",
                     expected.header.size_bytes));
    return;
  }
  arrived.payload->Fetch(expected.into, std::move(expected.owner), std::move(expected.transfer));
}

bool Mailbox::Track(const std::shared_ptr<Transfer>& transfer) {
  if (failure_.has_value()) {
    transfer->Fail(failure_->kind, failure_->message);
    return false;
  }
  if (transfers_.size() >= prune_at_) {
    const auto finished = [](const std::weak_ptr<Transfer>& weak) {
      const auto strong = weak.lock();
      return strong == nullptr || strong->Done();
    };
    transfers_.erase(std::remove_if(transfers_.begin(), transfers_.end(), finished),
                     transfers_.end());
    prune_at_ = std::max<std::size_t>(64, 2 * transfers_.size());
  }
  transfers_.push_back(transfer);
  return true;
}

void Mailbox::Fail(CommError::Kind kind, const std::string& message) {
  // Dropped after the lock is released: payloads may call back into the transport.
  std::map<Key, std::deque<Arrived>> arrived;
  std::map<Key, std::deque<Expected>> expected;
  std::vector<std::weak_ptr<Transfer>> transfers;
  {
    absl::MutexLock lock(&mutex_);
    if (failure_.has_value()) {
      return;
    }
    failure_ = Failure{kind, message};
    arrived.swap(arrived_);
    expected.swap(expected_);
    transfers.swap(transfers_);
  }
  for (const auto& weak : transfers) {
    if (const auto transfer = weak.lock()) {
      transfer->Fail(kind, message);
    }
  }
}

void Mailbox::Abort(const std::string& reason) {
  {
    absl::MutexLock lock(&mutex_);
    if (aborted_ || (failure_.has_value() && failure_->kind == CommError::Kind::kAborted)) {
      return;  // Everyone knows.
    }
    aborted_ = true;
  }
  Fail(CommError::Kind::kAborted, reason);
  link_->SendAbort(reason);
}

void LocalPayload::Fetch(absl::Span<char> into, std::shared_ptr<void> /*owner*/,
                         std::shared_ptr<Transfer> transfer) {
  if (!bytes_.empty()) {
    std::memcpy(into.data(), bytes_.data(), bytes_.size());
  }
  transfer->Complete();
}

}  // namespace imageddpo

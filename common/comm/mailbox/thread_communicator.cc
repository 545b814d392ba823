#include "common/comm/mailbox/thread_communicator.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/comm/mailbox/mailbox_communicator.h"

namespace imageddpo {
namespace {

/// The mailboxes of one group. Messages for a destroyed one are dropped.
using Hub = std::vector<std::weak_ptr<Mailbox>>;

class ThreadLink : public Link {
 public:
  ThreadLink(int rank, std::shared_ptr<const Hub> hub) : rank_(rank), hub_(std::move(hub)) {}

  void Send(int to, const MessageHeader& header, absl::Span<const char> bytes,
            std::shared_ptr<const void> owner, std::shared_ptr<Transfer> transfer) override {
    auto payload = std::make_unique<LocalPayload>(bytes, std::move(owner), std::move(transfer));
    if (const auto mailbox = (*hub_)[static_cast<std::size_t>(to)].lock()) {
      mailbox->Deliver(rank_, header, std::move(payload));
    }
  }

  void SendAbort(const std::string& reason) override {
    for (const auto& weak : *hub_) {
      if (const auto mailbox = weak.lock()) {
        mailbox->Fail(CommError::Kind::kAborted,
                      absl::StrCat("rank ", rank_, " gave up: ", reason));
      }
    }
  }

 private:
  const int rank_;
  const std::shared_ptr<const Hub> hub_;
};

}  // namespace

std::vector<std::shared_ptr<Mailbox>> MakeThreadMailboxes(int world_size) {
  std::vector<std::shared_ptr<Mailbox>> mailboxes;
  auto hub = std::make_shared<Hub>();
  for (int rank = 0; rank < world_size; ++rank) {
    mailboxes.push_back(std::make_shared<Mailbox>(rank, world_size));
    hub->push_back(mailboxes.back());
  }
  for (const auto& mailbox : mailboxes) {
    mailbox->SetLink(std::make_unique<ThreadLink>(mailbox->rank(), hub));
  }
  return mailboxes;
}

std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(int world_size,
                                                                   at::Device device) {
  std::vector<std::unique_ptr<Communicator>> communicators;
  for (auto& mailbox : MakeThreadMailboxes(world_size)) {
    communicators.push_back(std::make_unique<MailboxCommunicator>(std::move(mailbox), device));
  }
  return communicators;
}

std::unique_ptr<Communicator> MakeSoloCommunicator() {
  return std::move(MakeThreadCommunicators(1).front());
}

}  // namespace imageddpo

#include "common/comm/mpi/gang.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/comm/nccl/device_communicator.h"

namespace imageddpo {
namespace {

/// The port of a gang: FNV-1a of its tag, with the top bit set (other ports are the service's own).
std::uint64_t PortOf(const std::string& tag) {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : tag) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  }
  return hash | (std::uint64_t{1} << 63);
}

/// Passes messages from the messenger to the mailbox, and converts world ranks to gang ranks.
class GangPort : public MpiMessenger::Port {
 public:
  GangPort(std::weak_ptr<Mailbox> mailbox, std::vector<int> world_ranks)
      : mailbox_(std::move(mailbox)), world_ranks_(std::move(world_ranks)) {}

  void OnMessage(int from_world_rank, const MessageHeader& header,
                 std::unique_ptr<Payload> payload) override {
    const auto mailbox = mailbox_.lock();
    if (const int from = GangRank(from_world_rank); from >= 0 && mailbox != nullptr) {
      mailbox->Deliver(from, header, std::move(payload));
    }
  }

  void OnAbort(int from_world_rank, const std::string& reason) override {
    Fail(from_world_rank, CommError::Kind::kAborted, "gave up", reason);
  }

  void OnRankLost(int world_rank, const std::string& reason) override {
    Fail(world_rank, CommError::Kind::kPeerFailed, "is lost", reason);
  }

 private:
  int GangRank(int world_rank) const {
    const auto found = std::find(world_ranks_.begin(), world_ranks_.end(), world_rank);
    return found == world_ranks_.end() ? -1 : static_cast<int>(found - world_ranks_.begin());
  }

  void Fail(int world_rank, CommError::Kind kind, const char* what, const std::string& reason) {
    const auto mailbox = mailbox_.lock();
    if (const int rank = GangRank(world_rank); rank >= 0 && mailbox != nullptr) {
      mailbox->Fail(kind, absl::StrCat("rank ", rank, " of the gang (world rank ", world_rank, ") ",
                                       what, ": ", reason));
    }
  }

  const std::weak_ptr<Mailbox> mailbox_;
  const std::vector<int> world_ranks_;
};

class GangLink : public Link {
 public:
  GangLink(MpiMessenger& messenger, std::uint64_t port_id, std::vector<int> world_ranks)
      : messenger_(messenger), port_id_(port_id), world_ranks_(std::move(world_ranks)) {}
  ~GangLink() override { messenger_.Close(port_id_); }

  void Send(int to, const MessageHeader& header, absl::Span<const char> bytes,
            std::shared_ptr<const void> owner, std::shared_ptr<Transfer> transfer) override {
    messenger_.Send(world_ranks_[static_cast<std::size_t>(to)], port_id_, header, bytes,
                    std::move(owner), std::move(transfer));
  }

  void SendAbort(const std::string& reason) override {
    for (const int rank : world_ranks_) {
      messenger_.SendAbort(rank, port_id_, reason);
    }
  }

 private:
  MpiMessenger& messenger_;
  const std::uint64_t port_id_;
  const std::vector<int> world_ranks_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> OpenGang(MpiMessenger& messenger,
                                                       const std::vector<int>& world_ranks,
                                                       const std::string& tag, at::Device device,
                                                       GpuTransport transport) {
  const auto self = std::find(world_ranks.begin(), world_ranks.end(), messenger.world_rank());
  const std::set<int> distinct(world_ranks.begin(), world_ranks.end());
  if (self == world_ranks.end() || distinct.size() != world_ranks.size() || *distinct.begin() < 0 ||
      *distinct.rbegin() >= messenger.world_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", messenger.world_rank(), " of ", messenger.world_size(),
                     " cannot form the gang {", absl::StrJoin(world_ranks, ","), "}"));
  }
  const std::uint64_t port_id = PortOf(tag);
  const auto mailbox = std::make_shared<Mailbox>(static_cast<int>(self - world_ranks.begin()),
                                                 static_cast<int>(world_ranks.size()));
  if (!messenger.Open(port_id, std::make_shared<GangPort>(mailbox, world_ranks), /*busy=*/true)) {
    return absl::AlreadyExistsError(
        absl::StrCat("a gang has been formed under the name \"", tag, "\" before"));
  }
  mailbox->SetLink(std::make_unique<GangLink>(messenger, port_id, world_ranks));
  return MakeDeviceCommunicator(mailbox, device, transport);
}

}  // namespace imageddpo

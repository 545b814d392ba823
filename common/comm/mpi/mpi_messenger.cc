#include "common/comm/mpi/mpi_messenger.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/comm/mpi/mpi_faults.h"

namespace imageddpo {
namespace {

constexpr int kEnvelopeTag = 1;
constexpr int kFirstPayloadTag = 16;
constexpr int kPayloadTags = 32767 - kFirstPayloadTag;  // Every MPI has tags up to 32767.
constexpr std::size_t kEnvelopeBytes = 2048;            // Below every transport's eager limit.
constexpr int kEnvelopesPerLook = 64;
constexpr std::chrono::minutes kEarlyMessageLife{5};

int PayloadTag(std::uint64_t sequence) {
  return kFirstPayloadTag + static_cast<int>(sequence % kPayloadTags);
}

/// Bytes that came with the envelope.
class InlinePayload : public Payload {
 public:
  explicit InlinePayload(absl::Span<const char> bytes) : bytes_(bytes.begin(), bytes.end()) {}

  void Fetch(absl::Span<char> into, std::shared_ptr<void> /*owner*/,
             std::shared_ptr<Transfer> transfer) override {
    std::copy(bytes_.begin(), bytes_.end(), into.begin());
    transfer->Complete();
  }

 private:
  const std::vector<char> bytes_;
};

}  // namespace

/// Sent as raw bytes: both ends are the same build on the same kind of machine.
struct MpiMessenger::Envelope {
  enum class Type : std::int32_t { kMessage, kAbort, kLeave };
  Type type = Type::kMessage;
  std::int32_t is_inline = 0;
  std::uint64_t port_id = 0;
  std::uint64_t sequence = 0;  // Which payload messages belong to it.
  MessageHeader header;
};

struct MpiMessenger::EarlyMessage {
  std::chrono::steady_clock::time_point arrival;
  int from;
  Envelope envelope;
  std::unique_ptr<Payload> payload;  // Null for an abort.
  std::string abort_reason;
};

/// Bytes that stay with the sender until it is told where to send them.
class MpiMessenger::RemotePayload : public Payload {
 public:
  RemotePayload(MpiMessenger& messenger, int from, const Envelope& envelope)
      : commands_(messenger.commands_),
        messenger_(messenger),
        from_(from),
        sequence_(envelope.sequence),
        size_(static_cast<std::size_t>(envelope.header.size_bytes)) {}

  ~RemotePayload() override {
    if (!fetched_) {  // The sender waits for a receiver: take the bytes and forget them.
      Post({}, nullptr, nullptr);
    }
  }

  void Fetch(absl::Span<char> into, std::shared_ptr<void> owner,
             std::shared_ptr<Transfer> transfer) override {
    fetched_ = true;
    Post(into, std::move(owner), std::move(transfer));
  }

 private:
  void Post(absl::Span<char> into, std::shared_ptr<void> owner,
            std::shared_ptr<Transfer> transfer) {
    // The messenger runs commands only while it exists.
    commands_->Put([&messenger = messenger_, from = from_, sequence = sequence_, size = size_, into,
                    owner = std::move(owner), transfer = std::move(transfer)]() mutable {
      if (owner == nullptr) {
        auto scratch = std::make_shared<std::vector<char>>(size);
        into = absl::MakeSpan(*scratch);
        owner = scratch;
      }
      messenger.requests_.Receive(from, PayloadTag(sequence), into, std::move(owner),
                                  std::move(transfer));
    });
  }

  const std::shared_ptr<Commands> commands_;
  MpiMessenger& messenger_;
  const int from_;
  const std::uint64_t sequence_;
  const std::size_t size_;
  bool fetched_ = false;
};

MpiMessenger::MpiMessenger(MpiRuntime& runtime, const Options& options)
    : runtime_(runtime),
      world_rank_(runtime.world_rank()),
      world_size_(runtime.world_size()),
      envelope_buffers_(static_cast<std::size_t>(world_size_)),
      envelope_requests_(static_cast<std::size_t>(world_size_), MPI_REQUEST_NULL),
      next_sequence_(static_cast<std::size_t>(world_size_), 0),
      requests_(runtime.comm(),
                [this](int peer, int mpi_error) {
                  if (IsProcessFailure(mpi_error)) {
                    MarkLost(peer, kDied);
                  }
                }),
      thread_([this, options] { Loop(options); }) {}

MpiMessenger::~MpiMessenger() {
  commands_->Close();
  thread_.join();
  CancelReceives();
  runtime_.Retain(requests_.TakeMemory());
}

bool MpiMessenger::Open(std::uint64_t port_id, std::shared_ptr<Port> port, bool busy) {
  {
    absl::MutexLock lock(&mutex_);
    if (!used_ports_.insert(port_id).second) {
      return false;
    }
  }
  commands_->Put([this, port_id, port = std::move(port), busy] {
    ports_[port_id] = port;
    if (busy) {
      busy_ports_.insert(port_id);
    }
    for (const auto& [rank, reason] : lost_) {
      port->OnRankLost(rank, reason);
    }
    for (auto early = early_messages_.begin(); early != early_messages_.end();) {
      if (early->envelope.port_id != port_id) {
        ++early;
        continue;
      }
      if (early->payload == nullptr) {
        port->OnAbort(early->from, early->abort_reason);
      } else {
        port->OnMessage(early->from, early->envelope.header, std::move(early->payload));
      }
      early = early_messages_.erase(early);
    }
  });
  return true;
}

void MpiMessenger::Close(std::uint64_t port_id) {
  commands_->Put([this, port_id] {
    ports_.erase(port_id);
    busy_ports_.erase(port_id);
    closed_ports_.insert(port_id);
  });
}

void MpiMessenger::Send(int to_world_rank, std::uint64_t port_id, const MessageHeader& header,
                        absl::Span<const char> bytes, std::shared_ptr<const void> owner,
                        std::shared_ptr<Transfer> transfer) {
  commands_->Put([this, to = to_world_rank, port_id, header, bytes, owner = std::move(owner),
                  transfer = std::move(transfer)] {
    if (const auto lost = lost_.find(to); lost != lost_.end()) {
      if (transfer != nullptr) {
        transfer->Fail(CommError::Kind::kPeerFailed, lost->second);
      }
      return;
    }
    Envelope envelope{.port_id = port_id, .header = header};
    if (bytes.size() + sizeof(Envelope) <= kEnvelopeBytes) {
      envelope.is_inline = 1;
      SendEnvelope(to, envelope, bytes);
      if (transfer != nullptr) {
        transfer->Complete();  // Copied.
      }
      return;
    }
    envelope.sequence = next_sequence_[static_cast<std::size_t>(to)]++;
    SendEnvelope(to, envelope, {});
    requests_.Send(to, PayloadTag(envelope.sequence), bytes, owner, transfer);
  });
}

void MpiMessenger::SendAbort(int to_world_rank, std::uint64_t port_id, const std::string& reason) {
  commands_->Put([this, to_world_rank, port_id, reason] {
    SendEnvelope(to_world_rank, {.type = Envelope::Type::kAbort, .port_id = port_id}, reason);
  });
}

void MpiMessenger::DeclareLost(int world_rank, const std::string& reason) {
  commands_->Put([this, world_rank, reason] { MarkLost(world_rank, reason); });
}

void MpiMessenger::Leave(const std::string& reason, std::chrono::milliseconds timeout) {
  commands_->Put([this, reason] {
    for (int rank = 0; rank < world_size_; ++rank) {
      SendEnvelope(rank, {.type = Envelope::Type::kLeave}, reason);
    }
  });
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  bool sent = false;
  while (!sent && std::chrono::steady_clock::now() < deadline) {
    // Shared, because this call may time out before the messenger's thread uses it.
    struct Answer {
      absl::Notification given;
      bool sent = false;
    };
    auto answer = std::make_shared<Answer>();
    commands_->Put([this, answer] {
      answer->sent = requests_.empty();
      answer->given.Notify();
    });
    answer->given.WaitForNotificationWithTimeout(
        absl::FromChrono(deadline - std::chrono::steady_clock::now()));
    sent = answer->given.HasBeenNotified() && answer->sent;
    if (!sent) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

void MpiMessenger::Loop(const Options& options) {
  prctl(PR_SET_TIMERSLACK, 1000);  // Nanoseconds; the default makes 20 µs into 70.
  for (int rank = 0; rank < world_size_; ++rank) {
    envelope_buffers_[static_cast<std::size_t>(rank)].resize(kEnvelopeBytes);
    PostEnvelopeReceive(rank);
  }
  std::chrono::microseconds pause = options.min_pause;
  while (!commands_->closed()) {
    const auto commands = commands_->TakeAll(absl::FromChrono(pause));
    for (const auto& command : commands) {
      command();
    }
    const bool received = ReceiveEnvelopes();
    const bool finished = requests_.Finish();
    if (!commands.empty() || received || finished) {
      pause = options.min_pause;
      continue;
    }
    DropOldMessages();
    const bool busy = !busy_ports_.empty() || !requests_.empty();
    pause = std::min(busy ? options.busy_pause : options.idle_pause, pause + pause / 2);
  }
}

void MpiMessenger::PostEnvelopeReceive(int from) {
  if (from == world_rank_ || lost_.count(from) > 0) {
    return;
  }
  const auto index = static_cast<std::size_t>(from);
  const int error =
      MPI_Irecv(envelope_buffers_[index].data(), static_cast<int>(kEnvelopeBytes), MPI_BYTE, from,
                kEnvelopeTag, runtime_.comm(), &envelope_requests_[index]);
  if (error != MPI_SUCCESS) {
    MarkLost(from, kDied);
  }
}

bool MpiMessenger::ReceiveEnvelopes() {
  indices_.resize(static_cast<std::size_t>(world_size_));
  statuses_.resize(static_cast<std::size_t>(world_size_));
  bool any = false;
  for (int look = 0; look < kEnvelopesPerLook; ++look) {
    int count = 0;
    const int error = MPI_Testsome(world_size_, envelope_requests_.data(), &count, indices_.data(),
                                   statuses_.data());
    if (count == MPI_UNDEFINED || count == 0) {
      break;
    }
    any = true;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const int from = indices_[i];
      const int request_error = error == MPI_ERR_IN_STATUS ? statuses_[i].MPI_ERROR : MPI_SUCCESS;
      if (request_error != MPI_SUCCESS) {
        MarkLost(from, IsProcessFailure(request_error)
                           ? kDied
                           : "its messages cannot be received any more");
        continue;
      }
      if (lost_.count(from) > 0) {
        continue;  // Given up before; it has been stopped and goes on now.
      }
      int size_bytes = 0;
      MPI_Get_count(&statuses_[i], MPI_BYTE, &size_bytes);
      const auto& buffer = envelope_buffers_[static_cast<std::size_t>(from)];
      HandleEnvelope(from,
                     absl::MakeConstSpan(buffer.data(), static_cast<std::size_t>(size_bytes)));
      PostEnvelopeReceive(from);
    }
  }
  return any;
}

void MpiMessenger::HandleEnvelope(int from, absl::Span<const char> message) {
  Envelope envelope;
  std::memcpy(&envelope, message.data(), sizeof(envelope));
  const auto content = message.subspan(sizeof(envelope));
  switch (envelope.type) {
    case Envelope::Type::kMessage:
      HandleMessage(from, envelope,
                    envelope.is_inline != 0
                        ? std::unique_ptr<Payload>(std::make_unique<InlinePayload>(content))
                        : std::make_unique<RemotePayload>(*this, from, envelope));
      return;
    case Envelope::Type::kAbort:
      HandleAbort(from, envelope, std::string(content.begin(), content.end()));
      return;
    case Envelope::Type::kLeave:
      MarkLost(from, absl::StrCat("the process has ended: ",
                                  absl::string_view(content.data(), content.size())));
      return;
  }
}

void MpiMessenger::HandleMessage(int from, const Envelope& envelope,
                                 std::unique_ptr<Payload> payload) {
  if (const auto port = ports_.find(envelope.port_id); port != ports_.end()) {
    port->second->OnMessage(from, envelope.header, std::move(payload));
  } else if (closed_ports_.count(envelope.port_id) == 0) {
    early_messages_.push_back(
        {std::chrono::steady_clock::now(), from, envelope, std::move(payload), ""});
  }
}

void MpiMessenger::HandleAbort(int from, const Envelope& envelope, const std::string& reason) {
  if (const auto port = ports_.find(envelope.port_id); port != ports_.end()) {
    port->second->OnAbort(from, reason);
  } else if (closed_ports_.count(envelope.port_id) == 0) {
    early_messages_.push_back({std::chrono::steady_clock::now(), from, envelope, nullptr, reason});
  }
}

void MpiMessenger::DropOldMessages() {
  const auto oldest = std::chrono::steady_clock::now() - kEarlyMessageLife;
  while (!early_messages_.empty() && early_messages_.front().arrival < oldest) {
    early_messages_.pop_front();
  }
}

void MpiMessenger::SendEnvelope(int to, const Envelope& envelope, absl::Span<const char> content) {
  if (to == world_rank_ || lost_.count(to) > 0) {
    return;
  }
  content = content.subspan(0, std::min(content.size(), kEnvelopeBytes - sizeof(Envelope)));
  auto message = std::make_shared<std::vector<char>>(sizeof(Envelope) + content.size());
  std::memcpy(message->data(), &envelope, sizeof(Envelope));
  std::copy(content.begin(), content.end(), message->begin() + sizeof(Envelope));
  const absl::Span<const char> bytes(*message);
  requests_.Send(to, kEnvelopeTag, bytes, std::move(message), nullptr);
}

void MpiMessenger::MarkLost(int world_rank, const std::string& reason) {
  if (!lost_.emplace(world_rank, reason).second) {
    return;
  }
  const auto ports = ports_;  // A port may open or close others.
  for (const auto& [id, port] : ports) {
    port->OnRankLost(world_rank, reason);
  }
}

void MpiMessenger::CancelReceives() {
  for (auto& request : envelope_requests_) {
    if (request == MPI_REQUEST_NULL) {
      continue;
    }
    MPI_Cancel(&request);
    int done = 0;
    for (int look = 0; look < 100 && done == 0; ++look) {
      if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) {
        break;
      }
      if (done == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }
  runtime_.Retain(std::make_shared<std::vector<std::vector<char>>>(std::move(envelope_buffers_)));
}

}  // namespace imageddpo

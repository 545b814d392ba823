#include "tests/gpu_check/nccl/folder_mailbox.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace imageddpo {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(1);

/// An abort travels as a message that no operation of a mailbox has.
constexpr std::int64_t kAbortSize = -1;

std::filesystem::path FileOf(const std::filesystem::path& folder, int from, int to, int number) {
  return folder / absl::StrCat(from, "-to-", to, ".", number);
}

class FolderLink : public Link {
 public:
  FolderLink(std::filesystem::path folder, int rank, int size)
      : folder_(std::move(folder)), rank_(rank), next_(static_cast<std::size_t>(size)) {}

  void Send(int to, const MessageHeader& header, absl::Span<const char> bytes,
            std::shared_ptr<const void> /*owner*/, std::shared_ptr<Transfer> transfer) override {
    if (Write(to, header, bytes)) {
      transfer->Complete();
    } else {
      transfer->Fail(CommError::Kind::kTransport,
                     absl::StrCat("cannot write to ", folder_.string()));
    }
  }

  void SendAbort(const std::string& reason) override {
    const MessageHeader header{.size_bytes = kAbortSize};
    for (int to = 0; to < static_cast<int>(next_.size()); ++to) {
      if (to != rank_) {
        Write(to, header, reason);
      }
    }
  }

 private:
  bool Write(int to, const MessageHeader& header, absl::Span<const char> bytes) {
    absl::MutexLock lock(&mutex_);
    const auto path = FileOf(folder_, rank_, to, next_[static_cast<std::size_t>(to)]++);
    const std::string unfinished = path.string() + ".part";
    std::ofstream file(unfinished, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&header), sizeof(header));
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    std::error_code error;
    std::filesystem::rename(unfinished, path, error);
    return file.good() && !error;
  }

  const std::filesystem::path folder_;
  const int rank_;
  absl::Mutex mutex_;
  std::vector<int> next_ ABSL_GUARDED_BY(mutex_);  // By receiver: the number of the next file.
};

}  // namespace

FolderMailbox::FolderMailbox(const std::filesystem::path& folder, int rank, int size)
    : folder_(folder),
      mailbox_(std::make_shared<Mailbox>(rank, size)),
      next_(static_cast<std::size_t>(size)) {
  std::filesystem::create_directories(folder_);
  mailbox_->SetLink(std::make_unique<FolderLink>(folder_, rank, size));
  thread_ = std::thread([this] { Receive(); });
}

FolderMailbox::~FolderMailbox() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  thread_.join();
}

void FolderMailbox::Receive() {
  for (;;) {
    bool any = false;
    for (int peer = 0; peer < mailbox_->size(); ++peer) {
      any |= peer != mailbox_->rank() && ReceiveFrom(peer);
    }
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&closing_), any ? absl::ZeroDuration() : kPause)) {
      return;
    }
  }
}

bool FolderMailbox::ReceiveFrom(int peer) {
  int& number = next_[static_cast<std::size_t>(peer)];
  const auto path = FileOf(folder_, peer, mailbox_->rank(), number);
  std::ifstream file(path, std::ios::binary);
  MessageHeader header;
  if (!file.is_open() || !file.read(reinterpret_cast<char*>(&header), sizeof(header))) {
    return false;
  }
  ++number;
  auto bytes = std::make_shared<std::string>(std::istreambuf_iterator<char>(file),
                                             std::istreambuf_iterator<char>());
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  if (header.size_bytes == kAbortSize) {
    mailbox_->Fail(CommError::Kind::kAborted, absl::StrCat("rank ", peer, " gave up: ", *bytes));
  } else {
    mailbox_->Deliver(peer, header,
                      std::make_unique<LocalPayload>(
                          *bytes, bytes, std::make_shared<Transfer>("message of a folder")));
  }
  return true;
}

}  // namespace imageddpo

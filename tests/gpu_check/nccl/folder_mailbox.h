#pragma once

#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/comm/mailbox/mailbox.h"

namespace imageddpo {

/// The mailbox of one rank of a group whose ranks, processes or threads, share a folder and nothing
/// else: a message is a file, written under another name first. For a few small messages, so that
/// ranks find each other without MPI. The thread that looks for files sleeps 1 ms in between.
class FolderMailbox {
 public:
  /// @param folder  the same for all ranks of the group and used by no other; made where it is
  ///                missing. Who made it removes it.
  FolderMailbox(const std::filesystem::path& folder, int rank, int size);
  ~FolderMailbox();

  const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }

 private:
  void Receive();
  bool ReceiveFrom(int peer);

  const std::filesystem::path folder_;
  const std::shared_ptr<Mailbox> mailbox_;
  std::vector<int> next_;  // By peer: the number of the next file.
  absl::Mutex mutex_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace imageddpo

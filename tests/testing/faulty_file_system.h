#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"

namespace imageddpo {

/// Works like the real disk until step number `fail_at` (0-based; every call that could change the
/// disk is a step, each Append, Sync and Close of a file too). What then happens:
///   kDiskFull  that one step, when it is a write, writes half and fails with ENOSPC; any other
///              step fails with EIO; later steps work again, so that the caller can clean up
///   kCrash     that step and all later ones do nothing and fail, as if the process had ended there
class FaultyFileSystem final : public FileSystem {
 public:
  enum class Fault { kNone, kDiskFull, kCrash };

  FaultyFileSystem(Fault fault, int fail_at) : fault_(fault), fail_at_(fail_at) {}

  int steps() const { return steps_; }
  const std::vector<std::string>& log() const { return log_; }  ///< "rename /a /b", …, in order

  absl::StatusOr<std::string> Read(const std::string& path) override { return real_.Read(path); }
  absl::StatusOr<bool> Exists(const std::string& path) override { return real_.Exists(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return real_.List(path);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    if (Fails("create " + path)) return ErrnoStatus(EIO, "create " + path);
    auto file = real_.Create(path);
    if (!file.ok()) return file.status();
    return std::make_unique<File>(*this, path, *std::move(file));
  }
  absl::Status Append(const std::string& path, std::string_view bytes) override {
    if (Fails("append " + path)) return ErrnoStatus(ENOSPC, "append to " + path);
    return real_.Append(path, bytes);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (Fails("rename " + from + " " + to)) return ErrnoStatus(EIO, "rename " + from);
    return real_.Rename(from, to);
  }
  absl::Status SyncDirectory(const std::string& path) override {
    if (Fails("syncdir " + path)) return ErrnoStatus(EIO, "sync " + path);
    return real_.SyncDirectory(path);
  }
  absl::Status Remove(const std::string& path) override {
    if (Fails("remove " + path)) return ErrnoStatus(EIO, "remove " + path);
    return real_.Remove(path);
  }
  absl::Status RemoveAll(const std::string& path) override {
    if (Fails("removeall " + path)) return ErrnoStatus(EIO, "remove " + path);
    return real_.RemoveAll(path);
  }
  absl::Status MakeDirectory(const std::string& path) override {
    if (Fails("mkdir " + path)) return ErrnoStatus(EIO, "mkdir " + path);
    return real_.MakeDirectory(path);
  }

 private:
  class File final : public WritableFile {
   public:
    File(FaultyFileSystem& owner, std::string path, std::unique_ptr<WritableFile> real)
        : owner_(owner), path_(std::move(path)), real_(std::move(real)) {}

    absl::Status Append(std::string_view bytes) override {
      if (!owner_.Fails("write " + path_)) return real_->Append(bytes);
      real_->Append(bytes.substr(0, bytes.size() / 2)).IgnoreError();
      return ErrnoStatus(ENOSPC, "cannot write '" + path_ + "'");
    }
    absl::Status Sync() override {
      if (owner_.Fails("sync " + path_)) return ErrnoStatus(EIO, "sync " + path_);
      return real_->Sync();
    }
    absl::Status Close() override {
      if (owner_.Fails("close " + path_)) return ErrnoStatus(EIO, "close " + path_);
      return real_->Close();
    }

   private:
    FaultyFileSystem& owner_;
    std::string path_;
    std::unique_ptr<WritableFile> real_;
  };

  bool Fails(std::string step) {
    const int number = steps_++;
    log_.push_back(std::move(step));
    return (fault_ == Fault::kDiskFull && number == fail_at_) ||
           (fault_ == Fault::kCrash && number >= fail_at_);
  }

  PosixFileSystem real_;
  Fault fault_;
  int fail_at_;
  int steps_ = 0;
  std::vector<std::string> log_;
};

}  // namespace imageddpo

#include "trainer/controller/api/downloads.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "trainer/controller/api/trainer_service.h"
#include "trainer/controller/files/artifact_file.h"

namespace imageddpo {
namespace {

constexpr int64_t kSentAtOnceBytes = 256 << 10;
constexpr int64_t kHashedAtOnceBytes = 4 << 20;

}  // namespace

/// One call. At any time either a step of it waits or runs on the thread, or a part is being sent:
/// what has no lock is used by the step alone.
class Downloads::Call final : public grpc::ServerWriteReactor<v1::DownloadArtifactResponse> {
 public:
  Call(Downloads& downloads, std::string owner, const v1::DownloadArtifactRequest& request)
      : downloads_(downloads),
        owner_(std::move(owner)),
        request_(request),
        start_s_(downloads.clock_.NowSeconds()) {}

  void Begin() {
    has_place_ = downloads_.TakePlace(owner_);
    Continue();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) cancelled_ = true;
    Continue();
  }
  void OnCancel() override { cancelled_ = true; }  // The step or the write under way ends it.
  void OnDone() override {
    if (has_place_) downloads_.GiveBackPlace(owner_);
    delete this;
  }

 private:
  void Continue() {
    downloads_.steps_.Put([this] { Step(); });
  }

  void Step() {
    absl::Status status;
    if (cancelled_) {
      status = absl::CancelledError("the client went away");
    } else if (!file_.has_value()) {
      status = Open();
    }
    if (!status.ok() || is_last_sent_) return End(status);
    if (hashed_ < request_.offset()) {
      status = HashSkipped();
      return status.ok() ? Continue() : End(status);
    }
    status = ReadPart();
    if (!status.ok()) return End(status);
    StartWrite(&part_);
  }

  absl::Status Open() {
    if (!has_place_) {
      return absl::ResourceExhaustedError(
          absl::StrCat(kMaxPerCaller, " downloads of yours are under way; wait for one to end"));
    }
    IMAGEDDPO_RETURN_IF_ERROR(downloads_.store_.Get(request_.id()).status());
    IMAGEDDPO_ASSIGN_OR_RETURN(
        ArtifactFile file,
        ArtifactFile::Open(downloads_.store_.JobDir(request_.id()), request_.name()));
    for (const auto& [name, value] :
         {std::pair("offset", request_.offset()), std::pair("limit", request_.limit())}) {
      if (value >= 0) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("`", name, "` is ", value, "; it must not be negative"));
    }
    if (request_.offset() > file.size_bytes()) {
      return absl::OutOfRangeError(absl::StrCat("`offset` is ", request_.offset(), ", but ",
                                                request_.name(), " has ", file.size_bytes(),
                                                " bytes"));
    }
    const int64_t left = file.size_bytes() - request_.offset();
    end_ = request_.offset() + (request_.limit() == 0 ? left : std::min(request_.limit(), left));
    is_hashed_ = end_ == file.size_bytes();
    if (!is_hashed_) hashed_ = request_.offset();  // Nobody needs it.
    part_.set_size_bytes(file.size_bytes());
    file_ = std::move(file);
    return absl::OkStatus();
  }

  /// The hash is of the whole file, also of what the client has already.
  absl::Status HashSkipped() {
    const int64_t count = std::min(kHashedAtOnceBytes, request_.offset() - hashed_);
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, file_->Read(hashed_, count));
    hash_.Add(bytes);
    hashed_ += count;
    return absl::OkStatus();
  }

  absl::Status ReadPart() {
    const int64_t size_bytes = part_.size_bytes();
    part_.Clear();
    part_.set_size_bytes(size_bytes);
    part_.set_offset(hashed_);
    const int64_t count = std::min(kSentAtOnceBytes, end_ - hashed_);
    IMAGEDDPO_ASSIGN_OR_RETURN(*part_.mutable_data(), file_->Read(hashed_, count));
    if (is_hashed_) hash_.Add(part_.data());
    hashed_ += count;
    is_last_sent_ = hashed_ == end_;
    if (is_last_sent_ && is_hashed_) part_.set_sha256(hash_.Hex());
    return absl::OkStatus();
  }

  void End(const absl::Status& status) {
    downloads_.metrics_.RpcFinished("DownloadArtifact", status.code(),
                                    downloads_.clock_.NowSeconds() - start_s_);
    Finish(ToGrpcStatus(status));
  }

  Downloads& downloads_;
  const std::string owner_;
  const v1::DownloadArtifactRequest request_;
  const double start_s_;
  std::atomic<bool> cancelled_ = false;
  bool has_place_ = false;
  std::optional<ArtifactFile> file_;  // Not set before the first step.
  Sha256 hash_;                       // Of the first hashed_ bytes, if is_hashed_.
  int64_t hashed_ = 0;                // Everything before is hashed and sent, or skipped.
  int64_t end_ = 0;                   // Of the range.
  bool is_hashed_ = false;            // The range reaches to the end of the file.
  bool is_last_sent_ = false;
  v1::DownloadArtifactResponse part_;  // Being sent.
};

Downloads::Downloads(const JobStore& store, ServiceMetrics& metrics, const Clock& clock)
    : store_(store), metrics_(metrics), clock_(clock) {
  thread_ = std::thread([this] {
    while (const auto step = steps_.Take(absl::InfiniteDuration())) (*step)();
  });
}

Downloads::~Downloads() {
  steps_.Close();
  thread_.join();
}

grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* Downloads::Start(
    const std::string& owner, const v1::DownloadArtifactRequest& request) {
  auto* const call = new Call(*this, owner, request);
  call->Begin();
  return call;
}

bool Downloads::TakePlace(const std::string& owner) {
  const absl::MutexLock lock(&mutex_);
  int& calls = calls_by_owner_[owner];
  if (calls >= kMaxPerCaller) return false;
  ++calls;
  return true;
}

void Downloads::GiveBackPlace(const std::string& owner) {
  const absl::MutexLock lock(&mutex_);
  const auto entry = calls_by_owner_.find(owner);
  if (--entry->second == 0) calls_by_owner_.erase(entry);
}

}  // namespace imageddpo

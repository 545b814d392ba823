#include "trainer/controller/streams/downloads.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "trainer/controller/files/artifact_file.h"
#include "trainer/controller/streams/file_call.h"

namespace imageddpo {
namespace {

constexpr int64_t kSentAtOnceBytes = 256 << 10;
constexpr int64_t kHashedAtOnceBytes = 4 << 20;

class Download final : public FileCall<v1::DownloadArtifactResponse> {
 public:
  Download(const Parts& parts, const std::string& owner, const JobStore& store,
           const v1::DownloadArtifactRequest& request)
      : FileCall(parts, owner), store_(store), request_(request) {}

 private:
  void Step() override {
    absl::Status status = file_.has_value() ? absl::OkStatus() : Open();
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
    IMAGEDDPO_RETURN_IF_ERROR(store_.Get(request_.id()).status());
    IMAGEDDPO_ASSIGN_OR_RETURN(ArtifactFile file,
                               ArtifactFile::Open(store_.JobDir(request_.id()), request_.name()));
    for (const auto& [name, value] :
         {std::pair("offset", request_.offset()), std::pair("limit", request_.limit())}) {
      if (value >= 0) continue;
      return InvalidField(name, absl::StrCat("is ", value, "; it must not be negative"));
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

  const JobStore& store_;
  const v1::DownloadArtifactRequest request_;
  std::optional<ArtifactFile> file_;  // Not set before the first step.
  Sha256 hash_;                       // Of the first hashed_ bytes, if is_hashed_.
  int64_t hashed_ = 0;                // Everything before is hashed and sent, or skipped.
  int64_t end_ = 0;                   // Of the range.
  bool is_hashed_ = false;            // The range reaches to the end of the file.
  bool is_last_sent_ = false;
  v1::DownloadArtifactResponse part_;  // Being sent.
};

}  // namespace

grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* Downloads::Start(
    const std::string& owner, const v1::DownloadArtifactRequest& request) {
  auto* const call = new Download({"DownloadArtifact", thread_, places_, metrics_, clock_}, owner,
                                  store_, request);
  call->Begin();
  return call;
}

}  // namespace imageddpo

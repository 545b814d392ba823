#include "common/access/live_tokens.h"

#include <sys/stat.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "common/io/file.h"

namespace imageddpo {

LiveTokens::LiveTokens(std::string path, std::function<absl::Time()> now)
    : path_(std::move(path)), now_(std::move(now)) {}

LiveTokens::Stamp LiveTokens::StampOfFile() const {
  struct stat status {};
  if (::stat(path_.c_str(), &status) != 0) return {};
  return {int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec, status.st_size,
          status.st_ino};
}

absl::StatusOr<Caller> LiveTokens::Check(std::string_view token) const {
  if (token.empty()) {
    return WithReason(
        absl::UnauthenticatedError(
            "a token is needed: `imageddpo admin token create --owner NAME --role viewer` on the "
            "service's host makes one; imageddpo takes it with --token-file or $IMAGEDDPO_TOKEN, "
            "an HTTP request in the header `Authorization: Bearer TOKEN`"),
        Reason::kBadToken);
  }
  const std::string sha256 = Sha256Hex(token);
  const absl::MutexLock lock(&mutex_);
  if (const Stamp stamp = StampOfFile(); !is_read_ || stamp != stamp_) {
    tokens_.clear();
    const absl::StatusOr<std::vector<TokenRecord>> read = ReadTokenFile(path_);
    fault_ = read.status();
    if (read.ok()) {
      for (const TokenRecord& record : *read) tokens_[record.sha256] = record;
    }
    stamp_ = stamp;
    is_read_ = true;
  }
  if (!fault_.ok()) {
    return absl::UnavailableError("the service cannot read its tokens; its operator has to look");
  }
  const auto found = tokens_.find(sha256);
  if (found == tokens_.end()) {
    return WithReason(
        absl::UnauthenticatedError("the token is not one of this service, or was revoked"),
        Reason::kBadToken);
  }
  const TokenRecord& record = found->second;
  if (now_() >= record.expire_time) {
    return WithReason(absl::UnauthenticatedError(absl::StrCat(
                          "the token ", record.id, " of ", record.owner,
                          " has expired; `imageddpo admin token create` makes a new one")),
                      Reason::kBadToken);
  }
  return Caller{record.owner, record.role, record.expire_time};
}

}  // namespace imageddpo

#include "trainer/controller/files/disk_use.h"

#include "common/base/status.h"
#include "trainer/controller/files/job_files.h"

namespace imageddpo {
namespace {

constexpr double kMeasuredForSeconds = 60;

}  // namespace

absl::StatusOr<int64_t> DiskUse::BytesOf(const std::string& owner) {
  const absl::MutexLock lock(&mutex_);
  if (clock_.NowSeconds() >= next_s_) {
    IMAGEDDPO_RETURN_IF_ERROR(Measure());
    next_s_ = clock_.NowSeconds() + kMeasuredForSeconds;
  }
  const auto bytes = bytes_by_owner_.find(owner);
  return bytes == bytes_by_owner_.end() ? 0 : bytes->second;
}

absl::Status DiskUse::Measure() {
  using Owners = std::map<std::string, std::string>;
  IMAGEDDPO_ASSIGN_OR_RETURN(const Owners owners, store_.Owners());
  bytes_by_owner_.clear();
  for (const auto& [job_id, owner] : owners) {
    bytes_by_owner_[owner] += BytesBelow(store_.JobDir(job_id));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

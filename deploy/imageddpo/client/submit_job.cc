#include "deploy/imageddpo/client/submit_job.h"

#include <iostream>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

std::string RandomRequestId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppend(&id, absl::StrFormat("%08x", random()));
  return id;
}

}  // namespace

absl::StatusOr<v1::Job> SubmitOnce(Client& client, const v1::JobSpec& job,
                                   const std::string& request_id) {
  v1::SubmitJobRequest request;
  *request.mutable_job() = job;
  request.set_request_id(request_id.empty() ? RandomRequestId() : request_id);
  absl::StatusOr<v1::Job> submitted = client.SubmitJob(request);
  const absl::Status& status = submitted.status();
  const bool was_lost_underway =
      absl::IsDeadlineExceeded(status) ||
      (absl::IsUnavailable(status) && !absl::StrContains(status.message(), "refused"));
  if (was_lost_underway) {
    return absl::Status(
        status.code(),
        absl::StrCat(
            status.message(),
            "\nWhether the job was accepted is not known. To submit it once and only once, "
            "repeat this with --request-id ",
            request.request_id()));
  }
  if (!submitted.ok()) return submitted;
  for (const std::string& warning : submitted->warnings()) {
    std::cerr << "warning: " << Printable(warning) << "\n";
  }
  return submitted;
}

}  // namespace imageddpo

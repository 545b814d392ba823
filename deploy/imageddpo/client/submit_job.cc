#include "deploy/imageddpo/client/submit_job.h"

#include <iostream>
#include <random>
#include <utility>

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

/// Sends a request that makes a job.
template <typename Request>
absl::StatusOr<v1::Job> SendOnce(Client& client, Client::Method<Request, v1::Job> method,
                                 Request request) {
  if (request.request_id().empty()) request.set_request_id(RandomRequestId());
  absl::StatusOr<v1::Job> made = client.Call(method, request, Client::kSubmitTimeout);
  const absl::Status& status = made.status();
  const bool was_sent = !absl::StrContains(status.message(), "refused") &&
                        !absl::StrContains(status.message(), "No such file or directory");
  const bool was_lost_underway =
      absl::IsDeadlineExceeded(status) || (absl::IsUnavailable(status) && was_sent);
  if (was_lost_underway) {
    return absl::Status(
        status.code(),
        absl::StrCat(
            status.message(),
            "\nWhether the job was accepted is not known. To submit it once and only once, "
            "repeat this with --request-id ",
            request.request_id()));
  }
  if (!made.ok()) return made;
  for (const std::string& warning : made->warnings()) {
    std::cerr << "warning: " << Printable(warning) << "\n";
  }
  return made;
}

}  // namespace

absl::StatusOr<v1::Job> SubmitOnce(Client& client, v1::SubmitJobRequest request) {
  return SendOnce(client, &Client::Stub::SubmitJob, std::move(request));
}

absl::StatusOr<v1::Job> SubmitOnce(Client& client, const v1::JobSpec& job,
                                   const std::string& request_id) {
  v1::SubmitJobRequest request;
  *request.mutable_job() = job;
  request.set_request_id(request_id);
  return SubmitOnce(client, std::move(request));
}

absl::StatusOr<v1::Job> BranchOnce(Client& client, v1::BranchJobRequest request) {
  return SendOnce(client, &Client::Stub::BranchJob, std::move(request));
}

}  // namespace imageddpo

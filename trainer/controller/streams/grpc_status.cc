#include "trainer/controller/streams/grpc_status.h"

#include <string>

#include "common/base/rejection.h"
#include "common/base/text.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace imageddpo {
namespace {

// gRPC sends message and details as headers, of which clients accept at most 8 KiB: the message
// with three bytes for each byte that is not printable ASCII, and the details, which have the
// message once more, as base64.
constexpr size_t kMostBytes = 7000;
constexpr size_t kMostDetailsBytes = 2000;  // Beside the message.
constexpr size_t kMostValueBytes = 200;     // Of metadata.
constexpr char kErrorDomain[] = "imageddpo";

size_t InBase64(size_t bytes) { return (bytes + 2) / 3 * 4; }

google::rpc::Status DetailsOf(const absl::Status& status) {
  const Rejection rejection = RejectionOf(status);
  google::rpc::Status details;
  details.set_code(static_cast<int32_t>(status.code()));
  google::rpc::ErrorInfo info;
  info.set_reason(rejection.reason);
  info.set_domain(kErrorDomain);
  for (const auto& [key, value] : rejection.metadata) {
    (*info.mutable_metadata())[key] = Excerpt(ValidMessage(value), kMostValueBytes);
  }
  details.add_details()->PackFrom(info);
  google::rpc::BadRequest request;
  for (const FieldViolation& violation : rejection.violations) {
    auto& added = *request.add_field_violations();
    added.set_field(ValidMessage(violation.field));
    added.set_description(ValidMessage(violation.description));
    if (details.ByteSizeLong() + request.ByteSizeLong() <= kMostDetailsBytes) continue;
    request.mutable_field_violations()->RemoveLast();  // The message still has it.
    break;
  }
  if (!request.field_violations().empty()) details.add_details()->PackFrom(request);
  return details;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::Status details = DetailsOf(status);
  const std::string message = ValidMessage(std::string(status.message()));
  const size_t details_bytes = InBase64(details.ByteSizeLong());
  size_t fits = 0;
  for (size_t sent = 0; fits < message.size(); ++fits) {
    const char c = message[fits];
    sent += c >= 0x20 && c < 0x7F && c != '%' ? 1 : 3;
    if (sent + InBase64(fits) + details_bytes > kMostBytes) break;
  }
  details.set_message(Excerpt(message, fits));
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), details.message(),
                      details.SerializeAsString());
}

}  // namespace imageddpo

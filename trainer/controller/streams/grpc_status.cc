#include "trainer/controller/streams/grpc_status.h"

#include <string>

#include "common/base/text.h"

namespace imageddpo {
namespace {

// gRPC sends the message of a status as a header, with three bytes for each byte that is not
// printable ASCII, and clients accept at most 8 KiB of headers.
constexpr size_t kMaxSentMessageBytes = 6000;

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  const std::string message = ValidMessage(std::string(status.message()));
  size_t fits = 0;
  for (size_t sent = 0; fits < message.size(); ++fits) {
    const char c = message[fits];
    sent += c >= 0x20 && c < 0x7F && c != '%' ? 1 : 3;
    if (sent > kMaxSentMessageBytes) break;
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Excerpt(message, fits));
}

}  // namespace imageddpo

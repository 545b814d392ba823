#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// The header that a request which changes something has to send, with any value. A page of another
/// site cannot: a browser would first ask the server whether it may, and the server does not say
/// so.
inline constexpr char kChangeHeader[] = "X-Imageddpo-Change";

/// A request without its body, which the server does not read.
struct HttpRequest {
  std::string method;  ///< "GET", "HEAD", or "POST" for a route that changes something.
  std::string path;    ///< As sent, without the query: begins with a slash, nothing is decoded.
  std::map<std::string, std::string> query;    ///< Decoded; of a repeated name the last value.
  std::map<std::string, std::string> headers;  ///< By name in lower case.
  Caller caller;           ///< Who asks; an admin without a name where no tokens are checked.
  bool has_token = false;  ///< The caller is known by a token. Without one nothing is changed.
  std::string peer = "";   ///< The other end of the connection: "127.0.0.1:40112".

  /// Empty: it is not there.
  std::string Query(const std::string& name) const;
  std::string Header(const std::string& lower_case_name) const;
};

/// @param head  a request up to and with the empty line after its headers.
/// @return INVALID_ARGUMENT: it is no HTTP/1 request.
absl::StatusOr<HttpRequest> ParseHttpRequest(std::string_view head);

/// Whether a browser that sends this Host header means this host by a name that no other site can
/// have: localhost, 127.0.0.0/8 or ::1, with any port. A page of another site whose name has been
/// pointed to this host (DNS rebinding) sends that name. True without a header: no browser.
bool IsHostLocal(std::string_view host_header);

struct HttpResponse {
  int code = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body = "";
  std::string extra_headers = "";  ///< Lines with their ends.
  std::string cache_control = "no-store";
  std::string etag = "";  ///< With quotes. Not empty: a client that has it gets 304 without a body.

  /// A line of text with the HTTP code that fits the status: 400, 401, 403, 404, 409, 503, 504,
  /// else 500.
  static HttpResponse Error(const absl::Status& status);
};

/// The response as it is sent: the security headers of docs/security.md are on every one.
/// @param is_head  without its body.
std::string HttpText(const HttpResponse& response, bool is_head);

}  // namespace imageddpo

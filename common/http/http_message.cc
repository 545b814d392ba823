#include "common/http/http_message.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

/// Scripts and styles only from files of this server, requests only to it, and no frame around it.
constexpr char kSecurityHeaders[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n";

constexpr auto kReasons = std::to_array<std::pair<int, const char*>>({
    {200, "OK"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {409, "Conflict"},
    {421, "Misdirected Request"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
});

const char* ReasonOf(int code) {
  const auto* const found = std::find_if(kReasons.begin(), kReasons.end(),
                                         [&](const auto& reason) { return reason.first == code; });
  return found == kReasons.end() ? "Unknown" : found->second;
}

int CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kFailedPrecondition:
      return 409;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      return 503;
    default:
      return 500;
  }
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// %41 and + of a query; what is no escape stays as it is.
std::string Decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_escape = text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
                           HexDigit(text[i + 2]) >= 0;
    if (is_escape) {
      decoded.push_back(static_cast<char>(16 * HexDigit(text[i + 1]) + HexDigit(text[i + 2])));
      i += 2;
    } else {
      decoded.push_back(text[i] == '+' ? ' ' : text[i]);
    }
  }
  return decoded;
}

std::map<std::string, std::string> ParseQuery(std::string_view query) {
  std::map<std::string, std::string> values;
  while (!query.empty()) {
    const std::string_view item = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(item.size() + 1, query.size()));
    const size_t equals = item.find('=');
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view() : item.substr(equals + 1);
    if (!item.empty()) values[Decoded(item.substr(0, equals))] = Decoded(value);
  }
  return values;
}

bool IsVisible(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

}  // namespace

std::string HttpRequest::Query(const std::string& name) const {
  const auto found = query.find(name);
  return found == query.end() ? "" : found->second;
}

std::string HttpRequest::Header(const std::string& lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? "" : found->second;
}

absl::StatusOr<HttpRequest> ParseHttpRequest(std::string_view head) {
  const auto fault = [](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("this is no HTTP request: ", what));
  };
  const auto next_line = [&head] {
    const size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(end == std::string_view::npos ? head.size() : end + 2);
    return line;
  };
  const std::string_view first = next_line();
  const size_t method_end = first.find(' ');
  const size_t target_end = first.rfind(' ');
  if (method_end == std::string_view::npos || method_end == 0 || target_end <= method_end + 1 ||
      !first.substr(target_end + 1).starts_with("HTTP/1.")) {
    return fault("its first line is not METHOD /PATH HTTP/1.1");
  }
  const std::string_view target = first.substr(method_end + 1, target_end - method_end - 1);
  if (target.front() != '/' || !IsVisible(target)) return fault("its path does not begin with /");
  const size_t question = target.find('?');
  HttpRequest request;
  request.method = std::string(first.substr(0, method_end));
  request.path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) request.query = ParseQuery(target.substr(question + 1));
  for (std::string_view line = next_line(); !line.empty(); line = next_line()) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || !IsVisible(line.substr(0, colon))) {
      return fault("a header is not NAME: VALUE");
    }
    const std::string name = absl::AsciiStrToLower(std::string(line.substr(0, colon)));
    request.headers[name] = std::string(Trimmed(line.substr(colon + 1)));
  }
  return request;
}

bool IsHostLocal(std::string_view host_header) {
  if (host_header.empty()) return true;
  const size_t end = host_header.front() == '[' ? host_header.find(']') : host_header.find(':');
  const size_t size = host_header.front() == '[' && end != std::string_view::npos ? end + 1 : end;
  const std::string_view host = host_header.substr(0, size);
  const std::string_view port = host_header.substr(host.size());
  if (!port.empty() && port.front() != ':') return false;
  const Address address = Address::Of(absl::AsciiStrToLower(std::string(host)), 0);
  return !address.is_unix() && address.IsLocal();
}

HttpResponse HttpResponse::Error(const absl::Status& status) {
  HttpResponse response{.code = CodeOf(status),
                        .body = ValidMessage(std::string(status.message())) + "\n"};
  if (response.code == 401) response.extra_headers = "WWW-Authenticate: Bearer\r\n";
  return response;
}

std::string HttpText(const HttpResponse& response, bool is_head) {
  std::string text = absl::StrCat("HTTP/1.1 ", response.code, " ", ReasonOf(response.code), "\r\n");
  absl::StrAppend(&text, kSecurityHeaders, "Cache-Control: ", response.cache_control,
                  "\r\nConnection: close\r\n", response.extra_headers);
  if (!response.etag.empty()) absl::StrAppend(&text, "ETag: ", response.etag, "\r\n");
  if (response.code != 304) {
    absl::StrAppend(&text, "Content-Type: ", response.type,
                    "\r\nContent-Length: ", response.body.size(), "\r\n");
  }
  text += "\r\n";
  if (!is_head && response.code != 304) text += response.body;
  return text;
}

}  // namespace imageddpo

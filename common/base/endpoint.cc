#include "common/base/endpoint.h"

#include <arpa/inet.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr char kWhiteSpace[] = " \t\r\n";
constexpr const char* kRoleNames[] = {"viewer", "submitter", "admin"};

}  // namespace

Address Address::Of(std::string_view host, int port) {
  Address address;
  if (host.starts_with(kUnixPrefix)) {
    address.unix_path = std::string(host.substr(kUnixPrefix.size()));
    return address;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  address.host = std::string(host);
  address.port = port;
  return address;
}

absl::StatusOr<Address> Address::Parse(std::string_view text) {
  if (text.starts_with(kUnixPrefix)) {
    Address address = Of(text, 0);
    if (const absl::Status status = CheckUnixPath(address.unix_path); !status.ok()) return status;
    return address;
  }
  const size_t colon = text.rfind(':');
  int port = 0;
  if (colon == std::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(std::string(text.substr(colon + 1)), &port) || port < 1 || port > 65535 ||
      text.find('/') != std::string_view::npos ||
      text.find_first_of(kWhiteSpace) != std::string_view::npos) {
    return absl::InvalidArgumentError("is no HOST:PORT");
  }
  return Of(text.substr(0, colon), port);
}

std::string Address::ToString() const {
  if (is_unix()) return std::string(kUnixPrefix) + unix_path;
  return host.find(':') != std::string::npos ? absl::StrCat("[", host, "]:", port)
                                             : absl::StrCat(host, ":", port);
}

bool Address::IsLocal() const {
  if (is_unix() || host == "localhost" || host == "::1") return true;
  in_addr ipv4;  // A host's name may begin with "127." too.
  return host.starts_with("127.") && inet_pton(AF_INET, host.c_str(), &ipv4) == 1;
}

absl::Status CheckUnixPath(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("has no path");
  if (path.size() > kMaxUnixPathBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has a path of ", path.size(), " bytes; a socket's has at most ", kMaxUnixPathBytes));
  }
  if (path.find_first_of(absl::StrCat("%?#", kWhiteSpace)) != std::string::npos) {
    return absl::InvalidArgumentError("has white space, `%`, `?` or `#` in its path");
  }
  return absl::OkStatus();
}

std::string RoleName(Role role) { return kRoleNames[static_cast<size_t>(role)]; }

absl::StatusOr<Role> ParseRole(std::string_view name) {
  for (const Role role : {Role::kViewer, Role::kSubmitter, Role::kAdmin}) {
    if (name == RoleName(role)) return role;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("`", std::string(name), "` is no role; there are viewer, submitter and admin"));
}

std::string_view BearerToken(std::string_view authorization) {
  constexpr std::string_view kPrefix = "Bearer ";
  if (!authorization.starts_with(kPrefix)) return {};
  return authorization.substr(kPrefix.size());
}

}  // namespace imageddpo

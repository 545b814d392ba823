#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace imageddpo {

/// Where a server listens or a client calls: a TCP port of a host, or a Unix socket. The one place
/// that reads and writes such addresses.
struct Address {
  std::string host = "";       ///< Name or number; IPv6 without brackets.
  int port = 0;                ///< 0: a server takes a free one.
  std::string unix_path = "";  ///< Not empty: this Unix socket, and host and port have no meaning.

  /// From settings that give host and port separately. Checks nothing.
  /// @param host  name or number, IPv6 with or without brackets; or `unix:PATH`, for which `port`
  /// has no meaning.
  static Address Of(std::string_view host, int port);
  /// From HOST:PORT, [IPV6]:PORT or unix:PATH, as a client gets it.
  /// @return INVALID_ARGUMENT, without a name: the text is malformed, or its port is not from 1 to
  /// 65535. See CheckUnixPath() too.
  static absl::StatusOr<Address> Parse(std::string_view text);

  /// What Parse() and gRPC read: "127.0.0.1:50051", "[::1]:50051", "unix:/run/imageddpo.sock".
  std::string ToString() const;

  bool is_unix() const { return !unix_path.empty(); }
  /// Whether only this host can reach it: a Unix socket, localhost, 127.0.0.0/8, ::1.
  bool IsLocal() const;
};

/// The longest path of a Unix socket, in bytes. The system allows 107; the rest is for the folder
/// in which a server makes the socket before it takes its name.
inline constexpr size_t kMaxUnixPathBytes = 98;

/// @return INVALID_ARGUMENT, with a message that follows a name ("has …", "is …"), for a path that
/// cannot be that of a socket: too long, or with a character that has a meaning in gRPC's addresses
/// (`%`, `?`, `#`, white space).
absl::Status CheckUnixPath(const std::string& path);

/// What a caller may do; each role may do all that the ones before it may.
enum class Role {
  kViewer,     ///< Reads: jobs, events, metrics.
  kSubmitter,  ///< Submits jobs, and controls those that it owns.
  kAdmin,      ///< Controls all jobs.
};

/// "viewer", "submitter" or "admin", as files and messages have it.
std::string RoleName(Role role);
/// @return INVALID_ARGUMENT naming the roles that there are.
absl::StatusOr<Role> ParseRole(std::string_view name);

/// Who calls.
struct Caller {
  std::string owner;  ///< Of the jobs that this caller submits: a user's or a token's name.
  Role role = Role::kViewer;
  absl::Time expire_time = absl::InfiniteFuture();  ///< Of a token.
};

/// Decides who may call. Implementations are thread-safe and quick.
class TokenCheck {
 public:
  virtual ~TokenCheck() = default;
  /// @param token  What the caller sent as `authorization: Bearer TOKEN`; empty: nothing.
  /// @return who that is; UNAUTHENTICATED or PERMISSION_DENIED with a message for the caller.
  virtual absl::StatusOr<Caller> Check(std::string_view token) const = 0;
};

/// The token in the value of an `authorization` header; empty: there is none.
std::string_view BearerToken(std::string_view authorization);

/// PEM files of TLS; empty paths: none.
struct TlsFiles {
  std::string ca_file = "";           ///< Authority of the other side's certificate.
  std::string certificate_file = "";  ///< This side's certificate; a server needs one.
  std::string key_file = "";          ///< Its private key.

  bool empty() const { return ca_file.empty() && certificate_file.empty() && key_file.empty(); }
};

/// How a server is reached and who may call it, or how a client reaches it. The API's server and
/// the client turn it into gRPC's credentials, each in one function; the HTTP server uses address,
/// token_check and tls.
struct Endpoint {
  Address address;
  std::shared_ptr<const TokenCheck> token_check = nullptr;  ///< Server; null: no tokens.
  TlsFiles tls = {};              ///< Empty: bytes travel unencrypted; for local addresses only.
  std::string socket_group = "";  ///< Server: members of this group may use the Unix socket.
  std::string token = "";         ///< Client; empty: sends none.
};

}  // namespace imageddpo

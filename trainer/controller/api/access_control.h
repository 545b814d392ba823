#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/endpoint.h"
#include "trainer/controller/api/audit_log.h"
#include "trainer/controller/api/peer_listener.h"

namespace imageddpo {

/// Decides on each call of the API before its handler does anything: who calls, whether the
/// method's rule (method_rules.h) lets that role in, whether the job is the caller's. Writes the
/// audit log. Callers are known by their token where the endpoint checks tokens, else by their user
/// where it is a Unix socket; else everyone is an admin without a name. The user that the service
/// runs as, and root, are admins; other users of a shared socket are submitters. Thread-safe.
class AccessControl {
 public:
  /// @param peers  of the endpoint's Unix socket. @param audit  null: nothing is noted. Both must
  /// outlive the object.
  AccessControl(const Endpoint& endpoint, const PeerUsers& peers, AuditLog* audit);

  /// What callers are known by: "token", "user" or "nothing".
  const char* known_by() const;

  /// @param job_id    empty: the call is about no job.
  /// @param owner_of  asked only where the rule needs it: the job's owner, or why it is not known,
  /// as NOT_FOUND.
  /// @return who calls; UNAUTHENTICATED, PERMISSION_DENIED, or what owner_of() returned;
  /// UNAVAILABLE where a change cannot be noted in the audit log.
  absl::StatusOr<Caller> Admit(const grpc::ServerContextBase& context, std::string_view method,
                               const std::string& job_id,
                               const std::function<absl::StatusOr<std::string>()>& owner_of) const;
  /// The same for a call that does not come through gRPC. @param caller  who calls, or why that is
  /// not known. @param peer  the other end, for the audit log.
  absl::StatusOr<Caller> Admit(const absl::StatusOr<Caller>& caller, const std::string& peer,
                               std::string_view method, const std::string& job_id,
                               const std::function<absl::StatusOr<std::string>()>& owner_of) const;

  /// Notes that an admitted call was refused all the same, for what it asked: a job's paths or
  /// rewards.
  void NoteRefused(const grpc::ServerContextBase& context, std::string_view method,
                   const std::string& job_id, const Caller& caller, const absl::Status& why) const;

 private:
  absl::StatusOr<Caller> Identify(const grpc::ServerContextBase& context) const;

  const Endpoint endpoint_;
  const PeerUsers& peers_;
  AuditLog* const audit_;
};

}  // namespace imageddpo

#include "trainer/controller/api/access_control.h"

#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "trainer/controller/api/method_rules.h"

namespace imageddpo {

AccessControl::AccessControl(const Endpoint& endpoint, const PeerUsers& peers, AuditLog* audit)
    : endpoint_(endpoint), peers_(peers), audit_(audit) {}

absl::StatusOr<Caller> AccessControl::Identify(const grpc::ServerContextBase& context) const {
  if (endpoint_.token_check != nullptr) {
    const auto header = context.client_metadata().find("authorization");
    if (header == context.client_metadata().end()) return endpoint_.token_check->Check("");
    return endpoint_.token_check->Check(
        BearerToken({header->second.data(), header->second.size()}));
  }
  if (!endpoint_.address.is_unix()) return Caller{"", Role::kAdmin};
  const std::optional<uid_t> uid = peers_.Find(context.peer());
  if (!uid.has_value()) return absl::UnauthenticatedError("the caller's user is not known");
  const bool is_operator = *uid == 0 || *uid == ::geteuid();
  return Caller{UserName(*uid), is_operator ? Role::kAdmin : Role::kSubmitter};
}

const char* AccessControl::known_by() const {
  if (endpoint_.token_check != nullptr) return "token";
  return endpoint_.address.is_unix() ? "user" : "nothing";
}

absl::StatusOr<Caller> AccessControl::Admit(
    const grpc::ServerContextBase& context, std::string_view method, const std::string& job_id,
    const std::function<absl::StatusOr<std::string>()>& owner_of) const {
  return Admit(Identify(context), context.peer(), method, job_id, owner_of);
}

absl::StatusOr<Caller> AccessControl::Admit(
    const absl::StatusOr<Caller>& caller, const std::string& peer, std::string_view method,
    const std::string& job_id, const std::function<absl::StatusOr<std::string>()>& owner_of) const {
  absl::Status verdict = caller.status();
  const MethodRule rule = RuleOf(method);
  if (verdict.ok()) verdict = CheckRole(*caller, method);
  if (verdict.ok() && rule.own_jobs_only && caller->role != Role::kAdmin) {
    const absl::StatusOr<std::string> owner = owner_of();
    verdict = owner.ok() ? CheckOwner(*caller, method, *owner) : owner.status();
  }
  if (audit_ != nullptr && (!verdict.ok() || rule.role > Role::kViewer)) {
    const absl::Status noted = audit_->Note({.caller = caller.ok() ? *caller : Caller{},
                                             .is_known = caller.ok(),
                                             .peer = peer,
                                             .method = std::string(method),
                                             .job = job_id,
                                             .status = verdict});
    if (verdict.ok() && !noted.ok()) {
      verdict = WithReason(absl::UnavailableError(
                               absl::StrCat("the audit log cannot be written: ", noted.message())),
                           Reason::kAuditFailed);
    }
  }
  if (!verdict.ok()) return verdict;
  return *caller;
}

void AccessControl::NoteRefused(const grpc::ServerContextBase& context, std::string_view method,
                                const std::string& job_id, const Caller& caller,
                                const absl::Status& why) const {
  if (audit_ == nullptr) return;
  audit_
      ->Note({.caller = caller,
              .is_known = true,
              .peer = context.peer(),
              .method = std::string(method),
              .job = job_id,
              .status = why})
      .IgnoreError();  // Nothing was changed.
}

}  // namespace imageddpo

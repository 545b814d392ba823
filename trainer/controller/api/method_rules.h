#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "common/base/endpoint.h"

namespace imageddpo {

/// What a method of TrainerService asks of its caller.
struct MethodRule {
  Role role = Role::kAdmin;    ///< At least this one.
  bool own_jobs_only = false;  ///< Below kAdmin, the job must be the caller's.
};

/// The table of all methods. One that is not in it is for admins alone.
MethodRule RuleOf(std::string_view method);

/// Whether the role suffices. @return PERMISSION_DENIED saying which role is needed.
absl::Status CheckRole(const Caller& caller, std::string_view method);

/// Whether the job is the caller's, where the method asks for it.
/// @param owner  of the job; empty: nobody's, for admins alone.
/// @return PERMISSION_DENIED naming the owner.
absl::Status CheckOwner(const Caller& caller, std::string_view method, std::string_view owner);

}  // namespace imageddpo

#include "trainer/controller/api/method_rules.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"

namespace imageddpo {
namespace {

struct Row {
  std::string_view method;
  MethodRule rule;
};

constexpr MethodRule kReads = {Role::kViewer, false};
constexpr MethodRule kAdmins = {Role::kAdmin, false};
constexpr MethodRule kMakesJob = {Role::kSubmitter, false};
constexpr MethodRule kChangesJob = {Role::kSubmitter, true};
constexpr MethodRule kChangesCluster = {Role::kAdmin, false};

constexpr auto kRows = std::to_array<Row>({
    {"GetJob", kReads},
    {"ListJobs", kReads},
    {"WatchJob", kReads},
    {"ListArtifacts", kReads},
    {"DownloadArtifact", kReads},
    {"StreamLogs", kReads},
    {"GetCluster", kReads},
    {"Whoami", kReads},
    {"ListCheckpoints", kReads},
    {"PlanRetention", kAdmins},
    {"BackUpStore", kAdmins},
    {"SubmitJob", kMakesJob},
    {"BranchJob", kMakesJob},
    {"CancelJob", kChangesJob},
    {"PauseJob", kChangesJob},
    {"ResumeJob", kChangesJob},
    {"CheckpointJob", kChangesJob},
    {"ProfileJob", kChangesJob},
    {"UpdateJob", kChangesJob},
    {"DeleteJob", kChangesJob},
    {"DrainWorker", kChangesCluster},
});

}  // namespace

MethodRule RuleOf(std::string_view method) {
  for (const Row& row : kRows) {
    if (row.method == method) return row.rule;
  }
  return {};
}

absl::Status CheckRole(const Caller& caller, std::string_view method) {
  const Role needed = RuleOf(method).role;
  if (caller.role >= needed) return absl::OkStatus();
  const std::string name(method);
  return WithReason(
      absl::PermissionDeniedError(absl::StrCat(name, " is for the role ", RoleName(needed), "; ",
                                               caller.owner, " has the role ",
                                               RoleName(caller.role))),
      Reason::kRoleTooLow,
      {{"method", name}, {"role", RoleName(caller.role)}, {"needed", RoleName(needed)}});
}

absl::Status CheckOwner(const Caller& caller, std::string_view method, std::string_view owner) {
  if (caller.role == Role::kAdmin || !RuleOf(method).own_jobs_only) return absl::OkStatus();
  if (!owner.empty() && caller.owner == owner) return absl::OkStatus();
  const std::string name(method), whose(owner);
  return WithReason(absl::PermissionDeniedError(absl::StrCat(
                        "the job is ", owner.empty() ? std::string("nobody's") : "that of " + whose,
                        "; ", name, " is for its owner and for admins")),
                    Reason::kNotOwner, {{"method", name}, {"owner", whose}});
}

}  // namespace imageddpo

#include "trainer/controller/web/change_routes.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "trainer/controller/web/json_text.h"

namespace imageddpo {
namespace {

constexpr char kChangesPath[] = "/api/v1/jobs/";
constexpr absl::Duration kVerbTimeout = absl::Seconds(10);

struct PageVerb {
  const char* name;
  const char* method;  ///< Of the API.
  absl::StatusOr<v1::Job> (*apply)(JobService& jobs, const std::string& id, bool now);
};

constexpr auto kPageVerbs = std::to_array<PageVerb>({
    {"cancel", "CancelJob",
     [](JobService& jobs, const std::string& id, bool) { return jobs.Cancel(id); }},
    {"checkpoint", "CheckpointJob",
     [](JobService& jobs, const std::string& id, bool) { return jobs.Checkpoint(id); }},
    {"pause", "PauseJob",
     [](JobService& jobs, const std::string& id, bool now) { return jobs.Pause(id, now); }},
    {"resume", "ResumeJob",
     [](JobService& jobs, const std::string& id, bool) { return jobs.Resume(id, std::nullopt); }},
});

absl::StatusOr<std::string> Change(JobApi& jobs, const AccessControl& access,
                                   const HttpRequest& request) {
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(request.path.substr(sizeof(kChangesPath) - 1), absl::MaxSplits('/', 1));
  const std::string& id = parts.first;
  const auto* const verb =
      std::find_if(kPageVerbs.begin(), kPageVerbs.end(),
                   [&](const PageVerb& candidate) { return candidate.name == parts.second; });
  if (verb == kPageVerbs.end()) return absl::NotFoundError("there is no such verb here");
  IMAGEDDPO_RETURN_IF_ERROR(
      access
          .Admit(request.caller, absl::StrCat("http:", request.peer), verb->method, id,
                 [&]() -> absl::StatusOr<std::string> {
                   IMAGEDDPO_ASSIGN_OR_RETURN(const v1::Job job, jobs.Get(id));
                   return job.owner();
                 })
          .status());
  const bool now = request.Query("now") == "true";
  IMAGEDDPO_ASSIGN_OR_RETURN(v1::Job job,
                             jobs.Do([apply = verb->apply, id,
                                      now](JobService& service) { return apply(service, id, now); },
                                     kVerbTimeout));
  return JsonOf(&job);
}

}  // namespace

std::vector<HttpRoute> ChangeRoutes(JobApi& jobs, const AccessControl& access) {
  return {{.path = kChangesPath,
           .handler =
               [&jobs, &access](const HttpRequest& request) {
                 absl::StatusOr<std::string> json = Change(jobs, access, request);
                 if (!json.ok()) return HttpResponse::Error(json.status());
                 return HttpResponse{.type = "application/json", .body = *std::move(json)};
               },
           .is_change = true}};
}

}  // namespace imageddpo

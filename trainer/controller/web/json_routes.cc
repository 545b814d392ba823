#include "trainer/controller/web/json_routes.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/config/compare/setting_list.h"
#include "common/learning/learning.h"
#include "trainer/controller/api/method_rules.h"
#include "trainer/controller/jobs/job_state.h"
#include "trainer/controller/web/curves.h"
#include "trainer/controller/web/event_cache.h"
#include "trainer/controller/web/json_text.h"
#include "trainer/controller/web/log_lines.h"
#include "trainer/controller/web/pictures.h"

namespace imageddpo {
namespace {

constexpr char kJobsPath[] = "/api/v1/jobs";
constexpr char kClusterPath[] = "/api/v1/cluster";
constexpr char kWhoamiPath[] = "/api/v1/whoami";
constexpr int kMaxPoints = 2000;
constexpr int kDefaultPoints = 1000;
constexpr int kMinPoints = 10;
constexpr int kMaxEvents = 1000;
constexpr int64_t kMaxNumber = int64_t{1} << 53;  // Of JavaScript.
constexpr absl::Duration kClusterTimeout = absl::Seconds(5);

using Body = absl::StatusOr<std::string>;

/// A parameter that is a number. INVALID_ARGUMENT: it is none, or out of range.
absl::StatusOr<int64_t> NumberOf(const HttpRequest& request, const std::string& name,
                                 int64_t not_given, int64_t least, int64_t most) {
  const std::string text = request.Query(name);
  if (text.empty()) return not_given;
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < least || value > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", name, "` must be a number from ", least, " to ", most));
  }
  return value;
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

/// The routes' handlers; shared by them.
class JsonApi {
 public:
  explicit JsonApi(const JsonSources& sources) : sources_(sources), events_(sources.store) {}

  Body ListJobs(const HttpRequest& request) const {
    v1::ListJobsRequest list;
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t size, NumberOf(request, "page_size", 0, 0, 500));
    list.set_page_size(static_cast<int32_t>(size));
    list.set_page_token(request.Query("page_token"));
    IMAGEDDPO_ASSIGN_OR_RETURN(v1::ListJobsResponse response, sources_.jobs.List(list));
    const bool is_summary = request.Query("view") == "summary";
    for (v1::Job& job : *response.mutable_jobs()) {
      if (is_summary) job.mutable_spec()->CopyFrom(NameAlone(job.spec()));
    }
    return JsonOf(&response);
  }

  Body Cluster(const HttpRequest&) const {
    IMAGEDDPO_ASSIGN_OR_RETURN(v1::Cluster view, sources_.jobs.GetCluster(kClusterTimeout));
    return JsonOf(&view);
  }

  /// What follows /api/v1/jobs/: the job's id, and what of it is asked for.
  HttpResponse OfJob(const HttpRequest& request) {
    const std::string rest = request.path.substr(sizeof(kJobsPath));
    const std::string id = rest.substr(0, rest.find('/'));
    const std::string what = id.size() == rest.size() ? "" : rest.substr(id.size() + 1);
    constexpr std::string_view kPicture = "pictures/";
    if (std::string_view(what).starts_with(kPicture)) {
      return PictureResponse(request, id, what.substr(kPicture.size()));
    }
    if (what.empty()) return Answer(request, "GetJob", [&] { return JobJson(id); });
    if (what == "metrics" || what == "timings") {
      return Answer(request, "GetJob",
                    [&] { return SeriesOf(request, id, absl::StrCat(what, ".jsonl")); });
    }
    if (what == "events") {
      return Answer(request, "WatchJob", [&] { return EventsJson(request, id); });
    }
    if (what == "evaluations") {
      return Answer(request, "WatchJob", [&] { return EvaluationsJson(id); });
    }
    if (what == "logs") return Answer(request, "StreamLogs", [&] { return LogsJson(request, id); });
    if (what == "scores") {
      return Answer(request, "ListArtifacts", [&] { return ScoresOf(request, id); });
    }
    if (what == "pictures") {
      return Answer(request, "ListArtifacts", [&] { return PicturesJson(sources_.store, id); });
    }
    return HttpResponse::Error(absl::NotFoundError("a job has no such part"));
  }

  /// Who asks, and whether that caller may change anything here.
  static Body Whoami(const HttpRequest& request) {
    const bool may_change = request.has_token && request.caller.role >= Role::kSubmitter;
    return Dump({{"owner", request.caller.owner},
                 {"role", RoleName(request.caller.role)},
                 {"may_change", may_change}}) +
           "\n";
  }

  /// @param make  the body; called only where the caller may have it.
  static HttpResponse Answer(const HttpRequest& request, const char* method,
                             const std::function<Body()>& make) {
    const absl::Status allowed = CheckRole(request.caller, method);
    if (!allowed.ok()) return HttpResponse::Error(allowed);
    const Body body = make();
    if (!body.ok()) return HttpResponse::Error(body.status());
    return {.type = "application/json", .body = *body};
  }

 private:
  static v1::JobSpec NameAlone(const v1::JobSpec& spec) {
    v1::JobSpec bare;
    bare.set_name(spec.name());
    return bare;
  }

  HttpResponse PictureResponse(const HttpRequest& request, const std::string& id,
                               const std::string& name) const {
    HttpResponse response =
        Answer(request, "ListArtifacts", [&] { return ReadPicture(sources_.store, id, name); });
    if (response.code != 200) return response;
    response.type = "image/png";
    response.cache_control = "private, max-age=600";
    return response;
  }

  Body LogsJson(const HttpRequest& request, const std::string& id) const {
    v1::StreamLogsRequest logs;
    logs.set_id(id);
    logs.set_cursor(request.Query("cursor"));
    logs.set_min_level(request.Query("min_level"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t tail, NumberOf(request, "tail", 0, 0, kMaxNumber));
    logs.set_tail(tail);
    if (!request.Query("rank").empty()) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t rank, NumberOf(request, "rank", 0, 0, 1 << 20));
      logs.set_rank(static_cast<int32_t>(rank));
    }
    return LogLinesJson(sources_.store, logs);
  }

  Body ScoresOf(const HttpRequest& request, const std::string& id) const {
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t epoch, NumberOf(request, "epoch", 0, 0, kMaxNumber));
    return ScoresJson(sources_.store, id, epoch);
  }

  Body JobJson(const std::string& id) {
    IMAGEDDPO_ASSIGN_OR_RETURN(v1::Job job, sources_.jobs.Get(id));
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<v1::JobEvent> events, events_.EventsOf(id));
    const LearningVerdict verdict = JudgeLearning(HistoryOf(job, events));
    nlohmann::ordered_json settings = nlohmann::ordered_json::array();
    for (const JobSetting& setting : SettingsOf(job.spec())) {
      settings.push_back({{"name", setting.name},
                          {"value", setting.value},
                          {"default", setting.default_value},
                          {"is_default", setting.is_default()}});
    }
    const nlohmann::ordered_json learning = {{"verdict", verdict.name()},
                                             {"why", verdict.why},
                                             {"rule", verdict.rule},
                                             {"collapse_epoch", verdict.collapse_epoch}};
    const nlohmann::ordered_json verbs = VerbsIn(job.state());
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::string job_json, JsonOf(&job));
    return absl::StrCat("{\"job\":", job_json, ",\"learning\":", Dump(learning),
                        ",\"settings\":", Dump(settings), ",\"verbs\":", Dump(verbs), "}\n");
  }

  Body SeriesOf(const HttpRequest& request, const std::string& id, const std::string& file) const {
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t points,
                               NumberOf(request, "points", kDefaultPoints, kMinPoints, kMaxPoints));
    IMAGEDDPO_RETURN_IF_ERROR(sources_.store.Get(id).status());
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t last, NumberOf(request, "last", 0, 0, kMaxNumber));
    const std::string keys = request.Query("keys");
    const std::set<std::string> wanted = absl::StrSplit(keys, ',', absl::SkipEmpty());
    std::ifstream rows(absl::StrCat(sources_.store.JobDir(id), "/", file), std::ios::binary);
    CurveTable table = ReadCurves(rows);
    const bool is_mean = request.Query("thin") == "mean";
    std::erase_if(table.series, [&](const auto& entry) {
      return !wanted.empty() && !wanted.contains(entry.first);
    });
    for (auto& [name, series] : table.series) {
      const auto most = static_cast<size_t>(points);
      if (last > 0) series = LastPoints(series, static_cast<size_t>(last));
      series = is_mean ? AverageCurve(series, most) : ThinCurve(series, most);
    }
    return CurvesJson(table);
  }

  Body EventsJson(const HttpRequest& request, const std::string& id) const {
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t from, NumberOf(request, "from", 1, 0, kMaxNumber));
    IMAGEDDPO_ASSIGN_OR_RETURN(const int64_t limit,
                               NumberOf(request, "limit", kMaxEvents, 1, kMaxEvents));
    IMAGEDDPO_ASSIGN_OR_RETURN(JobStore::EventPage page,
                               sources_.store.Events(id, std::max<int64_t>(from, 1), limit));
    const bool is_full = page.events.size() == static_cast<size_t>(limit);
    const int64_t next = page.events.empty() ? from : page.events.back().number() + 1;
    const bool with_epochs = request.Query("epochs") != "false";
    std::string text = "{\"events\":[";
    const char* separator = "";
    for (v1::JobEvent& event : page.events) {
      if (event.has_epoch() && !with_epochs) continue;
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::string json, JsonOf(&event));
      absl::StrAppend(&text, separator, json);
      separator = ",";
    }
    return absl::StrCat(text, "],\"next_event\":", next, ",\"more\":", is_full ? "true" : "false",
                        ",\"ended\":", page.ended ? "true" : "false", "}\n");
  }

  Body EvaluationsJson(const std::string& id) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<v1::JobEvent> events, events_.EventsOf(id));
    std::string text = "{\"evaluations\":[";
    const char* separator = "";
    for (const v1::JobEvent& event : events) {
      if (!event.has_eval()) continue;
      v1::EvalEvent evaluation = event.eval();
      IMAGEDDPO_ASSIGN_OR_RETURN(const std::string json, JsonOf(&evaluation));
      absl::StrAppend(&text, separator, json);
      separator = ",";
    }
    return text + "]}\n";
  }

  const JsonSources sources_;
  EventCache events_;
};

}  // namespace

std::vector<HttpRoute> JsonRoutes(const JsonSources& sources) {
  const auto api = std::make_shared<JsonApi>(sources);
  return {
      {.path = kJobsPath,
       .handler =
           [api](const HttpRequest& request) {
             return JsonApi::Answer(request, "ListJobs", [&] { return api->ListJobs(request); });
           }},
      {.path = absl::StrCat(kJobsPath, "/"),
       .handler = [api](const HttpRequest& request) { return api->OfJob(request); }},
      {.path = kClusterPath,
       .handler =
           [api](const HttpRequest& request) {
             return JsonApi::Answer(request, "GetCluster", [&] { return api->Cluster(request); });
           }},
      {.path = kWhoamiPath, .handler = [](const HttpRequest& request) {
         return JsonApi::Answer(request, "Whoami", [&] { return JsonApi::Whoami(request); });
       }}};
}

}  // namespace imageddpo

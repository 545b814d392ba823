#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/access/token_file.h"
#include "common/base/endpoint.h"
#include "tests/service/controller/service_fixture.h"
#include "tests/testing/http_get.h"
#include "trainer/controller/web/page_routes.h"

namespace imageddpo {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The page and its JSON, from the real service with scripted workers.
class WebTest : public ServiceTest {
 protected:
  HttpReply Fetch(const std::string& path, const std::string& header = "") {
    return HttpFetch(Address::Parse(service_->http_address())->port, path, "GET", header);
  }
  json Json(const std::string& path) {
    const HttpReply reply = Fetch("/api/v1/" + path);
    EXPECT_EQ(reply.code, 200) << path << ": " << reply.body;
    EXPECT_THAT(reply.headers, HasSubstr("application/json"));
    return json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  }
};

TEST_F(WebTest, ThePageAndItsFilesAreServed) {
  Start();
  EXPECT_THAT(Fetch("/").headers, HasSubstr("text/html"));
  EXPECT_THAT(Fetch("/").body, HasSubstr("/app.js"));
  for (const EmbeddedFile& file : PageFiles()) {
    const HttpReply reply = Fetch(file.name == "index.html" ? "/" : "/" + std::string(file.name));
    EXPECT_EQ(reply.code, 200) << file.name;
    EXPECT_EQ(reply.body, file.bytes) << file.name;
    EXPECT_THAT(reply.headers, HasSubstr("Content-Security-Policy")) << file.name;
  }
  EXPECT_EQ(Fetch("/index.html").code, 404);
  EXPECT_EQ(Fetch("/../etc/passwd").code, 404);
  EXPECT_EQ(Fetch("/metrics").code, 200);
}

TEST_F(WebTest, JsonSaysWhatTheApiSays) {
  Start();
  EXPECT_EQ(Json("jobs")["jobs"].size(), 0u);
  const std::string id = MustSubmit(JobOf(3)).id();
  const v1::Job job = WaitFor(id, v1::SUCCEEDED);
  MustSubmit(JobOf(2));

  const json view = Json("jobs/" + id);
  EXPECT_EQ(view["job"]["id"], id);
  EXPECT_EQ(view["job"]["state"], "SUCCEEDED");
  EXPECT_EQ(view["job"]["progress"]["epoch"], "3");
  EXPECT_EQ(view["job"]["spec"]["num_epochs"], "3");
  EXPECT_EQ(view["learning"]["verdict"], "too early");
  bool is_changed = false;
  for (const json& setting : view["settings"]) {
    if (setting["name"] == "num_epochs")
      is_changed = setting["value"] == "3" && !setting["is_default"];
  }
  EXPECT_TRUE(is_changed);

  const json first = Json("jobs?page_size=1&view=summary");
  ASSERT_EQ(first["jobs"].size(), 1u);
  EXPECT_EQ(first["jobs"][0]["id"], "job-000002");
  EXPECT_EQ(first["jobs"][0]["spec"]["name"], job.spec().name());
  EXPECT_FALSE(first["jobs"][0]["spec"].contains("model"));
  const std::string token = first["next_page_token"];
  const json second = Json("jobs?page_size=1&page_token=" + token);
  EXPECT_EQ(second["jobs"][0]["id"], id);
  EXPECT_TRUE(second["jobs"][0]["spec"].contains("model"));

  const json metrics = Json("jobs/" + id + "/metrics?keys=reward_mean");
  EXPECT_EQ(metrics["rows"], 3);
  EXPECT_EQ(metrics["series"].size(), 1u);
  EXPECT_EQ(metrics["series"]["reward_mean"], (json{{"x", {1, 2, 3}}, {"y", {0, 0.5, 1}}}));

  const auto events = Watch(id, 1);
  const json page = Json("jobs/" + id + "/events?limit=2");
  EXPECT_EQ(page["events"].size(), 2u);
  EXPECT_EQ(page["next_event"], 3);
  EXPECT_EQ(page["more"], true);
  const json rest = Json("jobs/" + id + "/events?from=3");
  EXPECT_EQ(rest["events"].size() + 2, Numbers(events).size());
  EXPECT_EQ(rest["ended"], true);
  for (const json& event : Json("jobs/" + id + "/events?epochs=false")["events"]) {
    EXPECT_FALSE(event.contains("epoch"));
  }
}

TEST_F(WebTest, RanksAndWhatTheyWorkForAreShown) {
  script_.epochs_allowed = 0;
  Start();
  const std::string id = MustSubmit(JobOf(3)).id();
  WaitFor(id, v1::RUNNING);
  json ranks;
  for (int i = 0; i < 200; ++i) {  // The view is made once a second.
    ranks = json::array();
    const json cluster = Json("cluster");
    for (const json& host : cluster["hosts"]) {
      for (const json& rank : host["ranks"]) ranks.push_back(rank);
    }
    if (ranks.size() == 2 && ranks[0]["state"] == "RANK_BUSY") break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_EQ(ranks.size(), 2u);
  for (const json& rank : ranks) {
    EXPECT_EQ(rank["state"], "RANK_BUSY");
    EXPECT_EQ(rank["job_id"], id);
    EXPECT_EQ(rank["cores"], 8);
  }
}

TEST_F(WebTest, WhatIsNotThereOrWrongIsToldApart) {
  Start();
  const std::string id = MustSubmit(JobOf(1)).id();
  WaitFor(id, v1::SUCCEEDED);
  for (const std::string& path :
       {std::string("jobs/job-999999"), std::string("jobs/job-999999/metrics"), std::string("x"),
        "jobs/" + id + "/x", "jobs/" + id + "/pictures/metrics.jsonl",
        "jobs/" + id + "/pictures/../metrics.jsonl", std::string("jobs/"),
        std::string("jobs/../..")}) {
    EXPECT_EQ(Fetch("/api/v1/" + path).code, 404) << path;
  }
  for (const std::string& path :
       {std::string("jobs?page_size=x"), std::string("jobs?page_size=501"),
        std::string("jobs?page_token=made-up"), "jobs/" + id + "/metrics?points=1",
        "jobs/" + id + "/events?limit=0", "jobs/" + id + "/logs?min_level=loud",
        "jobs/" + id + "/logs?rank=x", "jobs/" + id + "/logs?cursor=x",
        "jobs/" + id + "/scores?epoch=-1"}) {
    EXPECT_EQ(Fetch("/api/v1/" + path).code, 400) << path;
  }
}

TEST_F(WebTest, WithoutATokenThereIsThePageAndNothingOfAJob) {
  cluster_.http.insecure = false;
  cluster_.access.token_file = dir_.Write("tokens.json", "{\"tokens\": []}");
  Start();
  EXPECT_EQ(Fetch("/").code, 200);
  EXPECT_EQ(Fetch("/app.js").code, 200);
  for (const char* path : {"/api/v1/jobs", "/api/v1/cluster", "/api/v1/jobs/job-000001",
                           "/api/v1/jobs/job-000001/pictures", "/api/v1/jobs/job-000001/logs",
                           "/api/v1/whoami", "/metrics", "/healthz", "/nowhere"}) {
    EXPECT_EQ(Fetch(path).code, 401) << path;
    EXPECT_EQ(Fetch(path, "Authorization: Bearer made-up\r\n").code, 401) << path;
  }
}

TEST_F(WebTest, TheLogOfAJobIsReadInParts) {
  script_.log_lines = 3;
  Start();
  const std::string id = MustSubmit(JobOf(1)).id();
  WaitFor(id, v1::SUCCEEDED);
  const json tail = Json("jobs/" + id + "/logs?tail=1&rank=2");
  ASSERT_EQ(tail["lines"].size(), 1u);
  EXPECT_EQ(tail["lines"][0]["message"], "line 3");
  EXPECT_EQ(Json("jobs/" + id + "/logs")["lines"].size(), 6u);
  EXPECT_EQ(Json("jobs/" + id + "/logs?min_level=warning")["lines"].size(), 2u);
  const std::string cursor = tail["cursor"];
  EXPECT_EQ(Json("jobs/" + id + "/logs?cursor=" + cursor)["lines"].size(), 0u);
}

/// A service with tokens of every role.
class WebChangesTest : public WebTest {
 protected:
  WebChangesTest() {
    cluster_.http.insecure = false;
    cluster_.access.token_file = dir_ / "tokens.json";
    std::vector<TokenRecord> records;
    for (const auto& [owner, role] :
         {std::pair("vera", Role::kViewer), std::pair("alice", Role::kSubmitter),
          std::pair("root", Role::kAdmin)}) {
      const auto token = MakeToken(owner, role, absl::Now(), absl::InfiniteDuration());
      EXPECT_TRUE(token.ok()) << token.status();
      records.push_back(token->record);
      headers_[owner] = "Authorization: Bearer " + token->token + "\r\n";
    }
    EXPECT_TRUE(WriteTokenFile(cluster_.access.token_file, records).ok());
  }

  HttpReply Change(const std::string& owner, const std::string& path) {
    return HttpFetch(Address::Parse(service_->http_address())->port, "/api/v1/jobs/" + path, "POST",
                     headers_[owner] + kChangeHeader + ": 1\r\n");
  }
  json Whoami(const std::string& owner) {
    return json::parse(Fetch("/api/v1/whoami", headers_[owner]).body);
  }

  std::map<std::string, std::string> headers_;
};

TEST_F(WebChangesTest, WhoMayAsksForVerbsAndTheAuditLogHasThem) {
  script_.epochs_allowed = 1;
  Start();
  const std::string id = MustSubmit(JobOf(9)).id();  // Without an owner: for admins alone.
  WaitForEpoch(id, 1);
  EXPECT_EQ(Whoami("vera")["may_change"], false);
  EXPECT_EQ(Whoami("alice"),
            (json{{"owner", "alice"}, {"role", "submitter"}, {"may_change", true}}));
  EXPECT_EQ(Whoami("root")["may_change"], true);

  EXPECT_EQ(Change("vera", id + "/pause").code, 403);
  EXPECT_EQ(Change("alice", id + "/pause").code, 403);
  EXPECT_EQ(Get(id).state(), v1::RUNNING);
  EXPECT_EQ(Change("root", "job-999999/pause").code, 404);
  EXPECT_EQ(Change("root", id + "/delete").code, 404);
  EXPECT_EQ(Change("root", id + "/resume").code, 409);

  const HttpReply paused = Change("root", id + "/pause?now=true");
  EXPECT_EQ(paused.code, 200) << paused.body;
  EXPECT_EQ(json::parse(paused.body)["id"], id);
  WaitFor(id, v1::PAUSED);
  script_.epochs_allowed = 9;
  EXPECT_EQ(Change("root", id + "/resume").code, 200);
  WaitFor(id, v1::SUCCEEDED);
  EXPECT_EQ(Change("root", id + "/cancel").code, 409);

  const std::string audit = dir_.Read("data/audit.jsonl");
  std::vector<std::string> asked;
  std::istringstream lines(audit);
  for (std::string line; std::getline(lines, line);) {
    const json row = json::parse(line);
    if (!row["peer"].get<std::string>().starts_with("http:127.0.0.1:")) continue;
    asked.push_back(row["owner"].get<std::string>() + " " + row["method"].get<std::string>() +
                    (row["allowed"].get<bool>() ? " yes" : " no"));
  }
  EXPECT_THAT(asked, ElementsAre("vera PauseJob no", "alice PauseJob no", "root PauseJob yes",
                                 "root ResumeJob yes", "root PauseJob yes", "root ResumeJob yes",
                                 "root CancelJob yes"));
}

TEST_F(WebTest, WithoutTokensThePageOnlyReads) {
  Start();
  const std::string id = MustSubmit(JobOf(1)).id();
  const HttpReply refused =
      HttpFetch(Address::Parse(service_->http_address())->port, "/api/v1/jobs/" + id + "/cancel",
                "POST", std::string(kChangeHeader) + ": 1\r\n");
  EXPECT_EQ(refused.code, 403);
  EXPECT_EQ(Json("whoami")["may_change"], false);
  WaitFor(id, v1::SUCCEEDED);
}

}  // namespace
}  // namespace imageddpo

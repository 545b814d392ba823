#include "common/metrics/http_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/testing/full_exporter.h"
#include "tests/unit/metrics/http_get.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<HttpExporter> Started(
    std::function<Health()> health = [] { return Health{}; },
    std::shared_ptr<prometheus::Registry> registry = nullptr) {
  if (registry == nullptr) registry = std::make_shared<prometheus::Registry>();
  auto exporter = HttpExporter::Start({"127.0.0.1", 0}, std::move(registry), std::move(health));
  EXPECT_TRUE(exporter.ok()) << exporter.status();
  return exporter.ok() ? *std::move(exporter) : nullptr;
}

TEST(HttpExporter, AFreePortIsReadable) {
  const auto exporter = Started();
  EXPECT_GT(exporter->port(), 0);
  EXPECT_EQ(HttpRequest(exporter->port(), "/metrics").code, 200);
}

TEST(HttpExporter, ServesEveryMetricInPrometheusText) {
  FullExporter exporter;
  const HttpReply reply = HttpRequest(exporter.port(), "/metrics");
  EXPECT_EQ(reply.code, 200);
  EXPECT_THAT(reply.headers, HasSubstr("text/plain; version=0.0.4"));
  for (const metric::Info* info : AllMetrics()) {
    const char* type = info->kind == metric::Kind::kGauge     ? " gauge\n"
                       : info->kind == metric::Kind::kCounter ? " counter\n"
                                                              : " histogram\n";
    EXPECT_THAT(reply.body, HasSubstr("# TYPE " + std::string(info->name) + type));
    EXPECT_THAT(reply.body, HasSubstr("# HELP " + std::string(info->name) + " " +
                                      std::string(info->help) + "\n"));
  }
}

// promtool parses the page and has no complaint about names, units and help.
TEST(HttpExporter, PromtoolFindsNothingToSay) {
  FullExporter exporter;
  const std::string text = HttpRequest(exporter.port(), "/metrics").body;
  ASSERT_FALSE(text.empty());
  const std::string file = ::testing::TempDir() + "/promtool-input-" + std::to_string(getpid());
  std::FILE* stream = std::fopen(file.c_str(), "w");
  ASSERT_NE(stream, nullptr);
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fclose(stream);
  std::FILE* pipe = popen(("promtool check metrics < " + file + " 2>&1").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string said;
  for (int c; (c = std::fgetc(pipe)) != EOF;) said.push_back(static_cast<char>(c));
  const int status = pclose(pipe);
  std::remove(file.c_str());
  EXPECT_EQ(status, 0) << said;
  EXPECT_EQ(said, "");
}

TEST(HttpExporter, HealthIsJsonWithAReason) {
  std::atomic<bool> ok{true};
  const auto exporter = Started([&] {
    return ok ? Health{true, "3 workers"} : Health{false, "no \"worker\"\n\xff"};
  });
  HttpReply reply = HttpRequest(exporter->port(), "/healthz");
  EXPECT_EQ(reply.code, 200);
  EXPECT_THAT(reply.headers, HasSubstr("application/json"));
  EXPECT_EQ(nlohmann::json::parse(reply.body),
            (nlohmann::json{{"status", "ok"}, {"reason", "3 workers"}}));
  ok = false;
  reply = HttpRequest(exporter->port(), "/healthz");
  EXPECT_EQ(reply.code, 503);
  EXPECT_EQ(nlohmann::json::parse(reply.body)["status"], "unhealthy");
  EXPECT_EQ(nlohmann::json::parse(reply.body)["reason"], "no \"worker\"\n\\xFF");
}

TEST(HttpExporter, AnExceptionIsA500) {
  const auto exporter = Started([]() -> Health { throw std::runtime_error("no health today"); });
  const HttpReply reply = HttpRequest(exporter->port(), "/healthz");
  EXPECT_EQ(reply.code, 500);
  EXPECT_THAT(reply.body, HasSubstr("no health today"));
}

TEST(HttpExporter, RefusesOtherPathsAndMethods) {
  const auto exporter = Started();
  for (const char* path :
       {"/", "/metrics/x", "/metricsx", "/etc/passwd", "/../../etc/passwd", "/healthz/"}) {
    EXPECT_EQ(HttpRequest(exporter->port(), path).code, 404) << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE"}) {
    EXPECT_EQ(HttpRequest(exporter->port(), "/metrics", method).code, 405) << method;
  }
  const HttpReply head = HttpRequest(exporter->port(), "/healthz", "HEAD");
  EXPECT_EQ(head.code, 200);
  EXPECT_EQ(head.body, "");
}

TEST(HttpExporter, APortInUseIsAClearError) {
  const auto first = Started();
  const auto second =
      HttpExporter::Start({"127.0.0.1", first->port()}, std::make_shared<prometheus::Registry>(),
                          [] { return Health{}; });
  ASSERT_EQ(second.status().code(), absl::StatusCode::kUnavailable) << second.status();
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(std::to_string(first->port()) + " is in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("`http.port`"));
}

TEST(HttpExporter, BadAddressesAreRefused) {
  for (const Endpoint& options : {Endpoint{"127.0.0.1", -1}, Endpoint{"127.0.0.1", 65536},
                                  Endpoint{"203.0.113.7", 0}, Endpoint{"no such host", 0}}) {
    const auto exporter = HttpExporter::Start(options, std::make_shared<prometheus::Registry>(),
                                              [] { return Health{}; });
    EXPECT_EQ(exporter.status().code(), absl::StatusCode::kInvalidArgument) << exporter.status();
    EXPECT_THAT(std::string(exporter.status().message()), HasSubstr("`http.port`"));
  }
}

TEST(HttpExporter, ListensToNoUnixSocket) {
  const auto exporter =
      HttpExporter::Start({Address::Of("unix:/tmp/x", 0)}, std::make_shared<prometheus::Registry>(),
                          [] { return Health{}; });
  EXPECT_TRUE(absl::IsInvalidArgument(exporter.status())) << exporter.status();
}

/// The least that a token check can be.
class OneToken final : public TokenCheck {
 public:
  absl::StatusOr<Caller> Check(std::string_view token) const override {
    if (token != "secret") return absl::UnauthenticatedError("who are you?");
    return Caller{"prometheus", Role::kViewer};
  }
};

TEST(HttpExporter, CallersAreAskedForTheirToken) {
  const auto exporter =
      HttpExporter::Start({Address::Of("127.0.0.1", 0), std::make_shared<OneToken>()},
                          std::make_shared<prometheus::Registry>(), [] { return Health{}; });
  ASSERT_TRUE(exporter.ok()) << exporter.status();
  const int port = (*exporter)->port();
  for (const char* path : {"/metrics", "/healthz", "/x"}) {
    const HttpReply refused = HttpRequest(port, path);
    EXPECT_EQ(refused.code, 401) << path;
    EXPECT_EQ(refused.body, "who are you?\n");
  }
  EXPECT_EQ(HttpRequest(port, "/metrics", "GET", "Authorization: Bearer secret\r\n").code, 200);
  EXPECT_EQ(HttpRequest(port, "/metrics", "GET", "Authorization: Basic secret\r\n").code, 401);
}

TEST(HttpExporter, ThePortIsFreeAfterTheEnd) {
  int port = 0;
  {
    const auto exporter = Started();
    port = exporter->port();
    EXPECT_EQ(HttpRequest(port, "/healthz").code, 200);
  }
  EXPECT_EQ(HttpRequest(port, "/healthz").code, 0);
  const auto again = HttpExporter::Start(
      {"127.0.0.1", port}, std::make_shared<prometheus::Registry>(), [] { return Health{}; });
  EXPECT_TRUE(again.ok()) << again.status();
}

TEST(HttpExporter, ManyAtOnceAreAllServed) {
  FullExporter exporter;
  std::atomic<int> served{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int j = 0; j < 10; ++j) served += HttpRequest(exporter.port(), "/metrics").code == 200;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served, 80);
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + t.tv_usec * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(HttpExporter, IsIdleWhileNobodyAsks) {
  const auto exporter = Started();
  const double before = CpuSeconds();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  EXPECT_LT(CpuSeconds() - before, 0.01) << "of 2 s";
}

}  // namespace
}  // namespace imageddpo

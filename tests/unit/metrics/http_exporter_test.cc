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
#include "tests/testing/http_get.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<HttpServer> StartedExporter(
    std::function<Health()> health = [] { return Health{}; },
    std::shared_ptr<prometheus::Registry> registry = nullptr) {
  if (registry == nullptr) registry = std::make_shared<prometheus::Registry>();
  auto server = HttpServer::Start({Address::Of("127.0.0.1", 0)}, {MetricsRoute(std::move(registry)),
                                                                  HealthRoute(std::move(health))});
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

TEST(HttpExporter, AFreePortIsReadable) {
  const auto exporter = StartedExporter();
  EXPECT_GT(exporter->port(), 0);
  EXPECT_EQ(HttpFetch(exporter->port(), "/metrics").code, 200);
}

TEST(HttpExporter, ServesEveryMetricInPrometheusText) {
  FullExporter exporter;
  const HttpReply reply = HttpFetch(exporter.port(), "/metrics");
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
  const std::string text = HttpFetch(exporter.port(), "/metrics").body;
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
  const auto exporter = StartedExporter([&] {
    return ok ? Health{true, "3 workers"} : Health{false, "no \"worker\"\n\xff"};
  });
  HttpReply reply = HttpFetch(exporter->port(), "/healthz");
  EXPECT_EQ(reply.code, 200);
  EXPECT_THAT(reply.headers, HasSubstr("application/json"));
  EXPECT_EQ(nlohmann::json::parse(reply.body),
            (nlohmann::json{{"status", "ok"}, {"reason", "3 workers"}}));
  ok = false;
  reply = HttpFetch(exporter->port(), "/healthz");
  EXPECT_EQ(reply.code, 503);
  EXPECT_EQ(nlohmann::json::parse(reply.body)["status"], "unhealthy");
  EXPECT_EQ(nlohmann::json::parse(reply.body)["reason"], "no \"worker\"\n\\xFF");
}

TEST(HttpExporter, AnExceptionIsA500) {
  const auto exporter = StartedExporter([]() -> Health { throw std::runtime_error("no health today"); });
  const HttpReply reply = HttpFetch(exporter->port(), "/healthz");
  EXPECT_EQ(reply.code, 500);
  EXPECT_THAT(reply.body, HasSubstr("no health today"));
}

TEST(HttpExporter, RefusesOtherPathsAndMethods) {
  const auto exporter = StartedExporter();
  for (const char* path :
       {"/", "/metrics/x", "/metricsx", "/etc/passwd", "/../../etc/passwd", "/healthz/"}) {
    EXPECT_EQ(HttpFetch(exporter->port(), path).code, 404) << path;
  }
  for (const char* method : {"POST", "PUT", "DELETE"}) {
    EXPECT_EQ(HttpFetch(exporter->port(), "/metrics", method).code, 405) << method;
  }
  const HttpReply head = HttpFetch(exporter->port(), "/healthz", "HEAD");
  EXPECT_EQ(head.code, 200);
  EXPECT_EQ(head.body, "");
}

TEST(HttpExporter, ManyAtOnceAreAllServed) {
  FullExporter exporter;
  std::atomic<int> served{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      for (int j = 0; j < 10; ++j) served += HttpFetch(exporter.port(), "/metrics").code == 200;
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
  const auto exporter = StartedExporter();
  const double before = CpuSeconds();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  EXPECT_LT(CpuSeconds() - before, 0.01) << "of 2 s";
}

}  // namespace
}  // namespace imageddpo

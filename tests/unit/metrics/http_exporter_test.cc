#include "common/metrics/http_exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "common/metrics/open_metrics.h"
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

/// The samples of a page in either format, by name and labels. Bounds of buckets as numbers.
std::map<std::string, double> SamplesOf(const std::string& page) {
  std::map<std::string, double> samples;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) continue;
    const size_t space = line.rfind(' ');
    std::string name = line.substr(0, space);
    if (const size_t le = name.find("le=\""); le != std::string::npos) {
      name = name.substr(0, le) + std::to_string(std::strtod(name.c_str() + le + 4, nullptr));
    }
    samples[name] = std::strtod(line.c_str() + space, nullptr);
  }
  return samples;
}

TEST(HttpExporter, OpenMetricsSaysTheSameToWhoAsksForIt) {
  FullExporter exporter;
  // What Prometheus 2.42 sends.
  const HttpReply open =
      HttpFetch(exporter.port(), "/metrics", "GET",
                "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
                "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n");
  EXPECT_EQ(open.code, 200);
  EXPECT_THAT(open.headers, HasSubstr("Content-Type: application/openmetrics-text; version=1.0.0; "
                                      "charset=utf-8"));
  EXPECT_THAT(open.headers, HasSubstr("Vary: Accept"));
  ASSERT_TRUE(open.body.ends_with("\n# EOF\n"));
  EXPECT_EQ(open.body.find("# EOF"), open.body.size() - 6);
  EXPECT_EQ(open.body.find("\n\n"), std::string::npos);
  for (const metric::Info* info : AllMetrics()) {
    std::string name(info->name);
    const bool is_counter = info->kind == metric::Kind::kCounter;
    if (is_counter) {
      ASSERT_TRUE(name.ends_with("_total")) << name;
      EXPECT_THAT(open.body, HasSubstr("\n" + name)) << "its samples";
      name.resize(name.size() - 6);
    }
    const char* type = is_counter                           ? " counter\n"
                       : info->kind == metric::Kind::kGauge ? " gauge\n"
                                                            : " histogram\n";
    EXPECT_THAT(open.body, HasSubstr("# TYPE " + name + type));
  }
  const auto plain = SamplesOf(HttpFetch(exporter.port(), "/metrics").body);
  EXPECT_GT(plain.size(), 200u);
  const auto same = SamplesOf(open.body);
  EXPECT_EQ(same.size(), plain.size());
  for (const auto& [name, value] : plain) {
    const auto found = same.find(name);
    ASSERT_TRUE(found != same.end()) << name;
    EXPECT_NEAR(found->second, value, 1e-12 * std::abs(value)) << name;  // 17 digits are not exact.
  }
}

TEST(OpenMetrics, TextsAndBoundsAreWrittenAsItAsks) {
  prometheus::Registry registry;
  prometheus::BuildGauge()
      .Name("a")
      .Help("one\ntwo \\ \"three\"")
      .Register(registry)
      .Add({{"job_name", "x\"y\\z\n"}});
  auto& histogram = prometheus::BuildHistogram().Name("h").Help("h").Register(registry).Add(
      {}, prometheus::Histogram::BucketBoundaries{0.25, 1, 60});
  histogram.Observe(0.5);
  prometheus::BuildCounter().Name("c_total").Help("c").Register(registry).Add({}).Increment(1e-7);
  const std::string text = OpenMetricsText(registry.Collect());
  for (const char* part :
       {"# HELP a one\\ntwo \\\\ \\\"three\\\"\n", "a{job_name=\"x\\\"y\\\\z\\n\"} 0\n",
        "h_bucket{le=\"0.25\"} 0\n", "h_bucket{le=\"1.0\"} 1\n", "h_bucket{le=\"60.0\"} 1\n",
        "h_bucket{le=\"+Inf\"} 1\n", "h_count 1\n", "h_sum 0.5\n", "# TYPE c counter\n",
        "c_total 1e-07\n"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(OpenMetrics, IsChosenByTheAcceptHeader) {
  for (const char* accept :
       {"application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "text/plain;q=0.5, Application/OpenMetrics-Text;q=0.6",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3"}) {
    EXPECT_TRUE(WantsOpenMetrics(accept)) << accept;
  }
  for (const char* accept :
       {"", "*/*", "text/plain", "text/plain, application/openmetrics-text;q=0.5",
        "application/openmetrics-text;version=0.0.1", "application/openmetrics-text;q=0",
        "application/openmetrics-text;version=2.0.0", "application/openmetrics-text;q=x", ",;"}) {
    EXPECT_FALSE(WantsOpenMetrics(accept)) << accept;
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
  const auto exporter =
      StartedExporter([]() -> Health { throw std::runtime_error("no health today"); });
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

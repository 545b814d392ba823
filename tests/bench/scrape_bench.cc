// What observing costs rank 0: scrape_bench RANKS JOBS. Exports every metric for so many ranks and
// jobs, is scraped over HTTP as Prometheus does it, in OpenMetrics, and prints JSON: the median
// milliseconds of a scrape, and the milliseconds that the numbers of one job's epoch take to be
// recorded.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/metrics/http_exporter.h"
#include "common/metrics/job_metrics.h"
#include "common/metrics/service_metrics.h"
#include "nlohmann/json.hpp"
#include "tests/testing/http_get.h"

namespace imageddpo {
namespace {

using std::chrono::steady_clock;

constexpr int kScrapes = 51;
constexpr int kEpochs = 20;
constexpr int kParts = 4;
constexpr double kUnixSeconds = 1.7e9;
constexpr char kAccept[] =
    "Accept: application/openmetrics-text;version=1.0.0\r\n";  // Prometheus'.

double MillisecondsSince(steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - start).count();
}

/// Every number set.
v1::EpochMetrics EpochOf(int64_t number) {
  v1::EpochMetrics epoch;
  const auto* reflection = epoch.GetReflection();
  for (const EpochMetric& metric : EpochMetricTable()) {
    const auto* field = epoch.GetDescriptor()->FindFieldByName(std::string(metric.field));
    if (field->is_map()) continue;
    if (field->cpp_type() == field->CPPTYPE_DOUBLE) {
      reflection->SetDouble(&epoch, field, 0.123456789 * static_cast<double>(number + 1));
    } else if (field->cpp_type() == field->CPPTYPE_INT64) {
      reflection->SetInt64(&epoch, field, number);
    }
  }
  for (const char* stage : {"sample", "reward", "rollout_wait", "wait", "train", "publish"}) {
    (*epoch.mutable_stage_seconds())[stage] = 0.4;
  }
  for (int part = 0; part < kParts; ++part) {
    (*epoch.mutable_parts_mean())[absl::StrCat("reward", part, ".value")] = 0.5;
  }
  return epoch;
}

void Record(int64_t number, int64_t epoch, JobMetrics* job, ServiceMetrics* service) {
  const v1::EpochMetrics metrics = EpochOf(number + epoch);
  job->EpochFinished(metrics, 128, kUnixSeconds);
  service->EpochFinished(metrics.stage_seconds());
  v1::EvalReport eval;
  *eval.mutable_parts_mean() = metrics.parts_mean();
  *eval.mutable_parts_stderr() = metrics.parts_mean();
  job->Evaluated(eval);
  job->CheckpointWritten(epoch, 1'000'000, kUnixSeconds);
}

void AddRank(int rank, ServiceMetrics* service) {
  v1::RankStats stats;
  stats.set_resident_bytes(int64_t{1} << 32);
  stats.set_device_allocated_bytes(int64_t{1} << 34);
  stats.set_device_reserved_bytes(int64_t{1} << 35);
  stats.set_gpu_power_watts(312.5);
  stats.set_gpu_busy_ratio(0.87);
  stats.set_gpu_used_bytes(int64_t{1} << 36);
  stats.set_sent_message_bytes(1'000'000'000 + rank);
  stats.set_sent_nccl_bytes(2'000'000'000 + rank);
  service->SetRank(rank, stats);
  service->SetHeartbeatAge(rank, 0.123);
  service->WorkerSlow(rank);
}

int Main(int argc, char** argv) {
  int ranks = 0, jobs = 0;
  if (argc != 3 || !absl::SimpleAtoi(argv[1], &ranks) || !absl::SimpleAtoi(argv[2], &jobs) ||
      ranks < 1 || jobs < 1) {
    std::cerr << "usage: scrape_bench RANKS JOBS\n";
    return 2;
  }
  const auto registry = std::make_shared<prometheus::Registry>();
  ServiceMetrics service(*registry, {"0.1.0", "0123abc", "cuda"}, std::chrono::system_clock::now());
  JobMetricsTable table(*registry);
  for (int rank = 0; rank < ranks; ++rank) AddRank(rank, &service);
  for (const char* method : {"SubmitJob", "GetJob", "ListJobs", "WatchJob", "CancelJob"}) {
    service.RpcFinished(method, absl::StatusCode::kOk, 0.002);
  }
  for (int job = 0; job < jobs; ++job) {
    const auto metrics = table.Get(absl::StrCat("job-", job), absl::StrCat("name of job ", job));
    metrics->Started("rollout 48, trainer 16", 100, kUnixSeconds);
    Record(job, 0, metrics.get(), &service);
  }
  const auto start = steady_clock::now();
  for (int64_t epoch = 1; epoch <= kEpochs; ++epoch) {
    Record(1, epoch, table.Get("job-0", "name of job 0").get(), &service);
  }
  const double record_milliseconds = MillisecondsSince(start) / kEpochs;

  const auto server = HttpServer::Start({Address::Of("127.0.0.1", 0)}, {MetricsRoute(registry)});
  if (!server.ok()) {
    std::cerr << "scrape_bench: " << server.status() << "\n";
    return 1;
  }
  std::vector<double> milliseconds;
  std::string body;
  for (int i = 0; i < kScrapes; ++i) {
    const auto begin = steady_clock::now();
    HttpReply reply = HttpFetch((*server)->port(), "/metrics", "GET", kAccept);
    milliseconds.push_back(MillisecondsSince(begin));
    if (reply.code != 200 || !reply.body.ends_with("# EOF\n")) {
      std::cerr << "scrape_bench: /metrics answers " << reply.code << "\n";
      return 1;
    }
    body = std::move(reply.body);
  }
  std::nth_element(milliseconds.begin(), milliseconds.begin() + kScrapes / 2, milliseconds.end());
  std::cout << nlohmann::json{{"ranks", ranks},
                              {"jobs", jobs},
                              {"lines", std::count(body.begin(), body.end(), '\n')},
                              {"bytes", body.size()},
                              {"scrape_milliseconds", milliseconds[kScrapes / 2]},
                              {"record_milliseconds", record_milliseconds}}
                   .dump()
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) { return imageddpo::Main(argc, argv); }

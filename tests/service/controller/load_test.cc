// Many jobs, clients and watchers at once: nothing is lost, doubled or out of order. A small load
// by default; IMAGEDDPO_LOAD=full takes the one that the goals are for, checks them and prints what
// was measured (tests/soak/run.sh).

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <set>
#include <string_view>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::IsEmpty;
using Steady = std::chrono::steady_clock;

struct Load {
  int jobs = 50, clients = 5, watchers = 20, ended = 100;
  bool is_full = false;
};

Load LoadOfEnvironment() {
  const char* const wanted = std::getenv("IMAGEDDPO_LOAD");
  if (wanted == nullptr || std::string_view(wanted) != "full") return {};
  return {.jobs = 1000, .clients = 50, .watchers = 200, .ended = 10'000, .is_full = true};
}

double SecondsSince(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

double Percentile99(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() * 99 / 100];
}

class LoadTest : public ServiceTest {
 protected:
  std::unique_ptr<v1::TrainerService::Stub> NewClient() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // A connection of its own.
    return v1::TrainerService::NewStub(grpc::CreateCustomChannel(
        service_->grpc_address(), grpc::InsecureChannelCredentials(), arguments));
  }

  /// Jobs of earlier days.
  void StoreEndedJobs(int count) {
    auto store = JobStore::Open(cluster_.data_dir);
    ASSERT_TRUE(store.ok()) << store.status();
    for (int i = 0; i < count; ++i) {
      JobRecord record;
      record.job.set_state(v1::SUCCEEDED);
      *record.job.mutable_spec() = JobOf(1);
      record.job.mutable_create_time()->set_seconds(1'700'000'000 + i);
      record.job.mutable_end_time()->set_seconds(1'700'000'001 + i);
      v1::JobEvent event;
      event.mutable_state()->set_state(v1::SUCCEEDED);
      ASSERT_TRUE((*store)->Insert(&record, {event}).ok());
    }
  }

  /// One client: submits jobs, and lists the newest ones now and then.
  void SubmitAndList(int client, int count) {
    const auto stub = NewClient();
    for (int i = 0; i < count; ++i) {
      grpc::ClientContext context;
      v1::SubmitJobRequest request;
      *request.mutable_job() = JobOf(1);
      request.set_request_id(absl::StrCat("client ", client, " job ", i));
      v1::Job job;
      Steady::time_point start = Steady::now();
      const grpc::Status submitted = stub->SubmitJob(&context, request, &job);
      const double submit_s = SecondsSince(start);
      grpc::ClientContext list_context;
      v1::ListJobsResponse page;
      start = Steady::now();
      const grpc::Status listed = stub->ListJobs(&list_context, v1::ListJobsRequest(), &page);
      const double list_s = SecondsSince(start);
      const absl::MutexLock lock(&mutex_);
      if (!submitted.ok()) faults_.push_back(submitted.error_message());
      if (!listed.ok()) faults_.push_back(listed.error_message());
      if (!ids_.insert(job.id()).second) faults_.push_back(job.id() + " was given twice");
      submit_seconds_.push_back(submit_s);
      list_seconds_.push_back(list_s);
    }
  }

  /// One watcher: follows a job from its first event to its end.
  void WatchToTheEnd(const std::string& id) {
    const auto stub = NewClient();
    grpc::ClientContext context;
    v1::WatchJobRequest request;
    request.set_id(id);
    const auto reader = stub->WatchJob(&context, request);
    int64_t next = 1;
    v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
    std::string fault;
    for (v1::JobEvent event; reader->Read(&event);) {
      if (event.has_progress()) continue;
      if (event.number() != next) fault = absl::StrCat("event ", event.number(), " for ", next);
      next = event.number() + 1;
      if (event.has_state()) state = event.state().state();
    }
    const grpc::Status end = reader->Finish();
    if (!end.ok()) fault = end.error_message();
    if (state != v1::SUCCEEDED) fault = absl::StrCat("ends with ", v1::JobState_Name(state));
    const absl::MutexLock lock(&mutex_);
    if (!fault.empty()) faults_.push_back(absl::StrCat(id, ": ", fault));
  }

  /// All jobs, the newest first, page by page.
  std::vector<v1::Job> ListAll() {
    std::vector<v1::Job> jobs;
    v1::ListJobsRequest request;
    request.set_page_size(500);
    do {
      grpc::ClientContext context;
      v1::ListJobsResponse page;
      const grpc::Status status = stub().ListJobs(&context, request, &page);
      EXPECT_TRUE(status.ok()) << status.error_message();
      if (!status.ok()) return jobs;
      jobs.insert(jobs.end(), page.jobs().begin(), page.jobs().end());
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
    return jobs;
  }

  absl::Mutex mutex_;
  std::vector<std::string> faults_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> ids_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> submit_seconds_ ABSL_GUARDED_BY(mutex_), list_seconds_
      ABSL_GUARDED_BY(mutex_);
};

TEST_F(LoadTest, NothingIsLostDoubledOrOutOfOrder) {
  const Load load = LoadOfEnvironment();
  StoreEndedJobs(load.ended);
  script_.epochs_allowed = 2;
  Start();
  const std::string training = MustSubmit(JobOf(4)).id();  // Has all ranks until it may go on.
  WaitForEpoch(training, 2);

  const Steady::time_point start = Steady::now();
  std::vector<std::thread> clients;
  for (int client = 0; client < load.clients; ++client) {
    clients.emplace_back(
        [this, client, &load] { SubmitAndList(client, load.jobs / load.clients); });
  }
  for (std::thread& client : clients) client.join();
  const double submits_per_s = load.jobs / SecondsSince(start);
  std::vector<std::string> ids;
  {
    const absl::MutexLock lock(&mutex_);
    EXPECT_THAT(faults_, IsEmpty());
    ids.assign(ids_.begin(), ids_.end());
    std::cout << "{\"jobs\": " << load.jobs << ", \"clients\": " << load.clients
              << ", \"watchers\": " << load.watchers << ", \"ended\": " << load.ended
              << ", \"submits_per_second\": " << submits_per_s
              << ", \"submit_p99_ms\": " << 1000 * Percentile99(submit_seconds_)
              << ", \"list_p99_ms\": " << 1000 * Percentile99(list_seconds_) << "}" << std::endl;
    if (load.is_full) {
      EXPECT_LE(Percentile99(list_seconds_), 0.020);
      EXPECT_GE(submits_per_s, 200);
    }
  }
  ASSERT_EQ(ids.size(), static_cast<size_t>(load.jobs));

  std::vector<std::thread> watchers;
  for (int i = 0; i < load.watchers; ++i) {
    const std::string id = ids[static_cast<size_t>(i) % ids.size()];
    watchers.emplace_back([this, id] { WatchToTheEnd(id); });
  }
  script_.epochs_allowed = 4;
  const Steady::time_point deadline = Steady::now() + std::chrono::minutes(load.is_full ? 20 : 2);
  while (Get(ids.back()).state() != v1::SUCCEEDED && Steady::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  // A job's ranks are free, and the next one runs, before its last files are written.
  for (const std::string& id : ids) WaitFor(id, v1::SUCCEEDED);
  for (std::thread& watcher : watchers) watcher.join();

  const std::vector<v1::Job> jobs = ListAll();
  ASSERT_EQ(jobs.size(), static_cast<size_t>(load.ended + 1 + load.jobs));
  for (size_t i = 0; i < static_cast<size_t>(load.jobs); ++i) {
    EXPECT_EQ(jobs[i].state(), v1::SUCCEEDED) << jobs[i].id();
    // One owner, one priority, and each job takes all ranks: they run in the order of submission.
    const auto& [newer, older] = std::pair(jobs[i].start_time(), jobs[i + 1].start_time());
    EXPECT_GE(std::pair(newer.seconds(), newer.nanos()), std::pair(older.seconds(), older.nanos()))
        << jobs[i].id();
  }
  const absl::MutexLock lock(&mutex_);
  EXPECT_THAT(faults_, IsEmpty());
}

}  // namespace
}  // namespace imageddpo

#include "tests/unit/controller/jobs/stored_jobs_fixture.h"

#include <chrono>

#include "common/base/logging.h"
#include "tests/testing/judged.h"

namespace imageddpo {

StoredJobsTest::StoredJobsTest() {
  logger_ = *MakeLogger({.level = "off"});
  ReopenStore();
}

void StoredJobsTest::ReopenStore() {
  table_.reset();
  hub_.reset();
  store_.reset();
  job_metrics_.reset();
  metrics_.reset();
  registry_ = std::make_shared<prometheus::Registry>();
  metrics_ = std::make_unique<ServiceMetrics>(*registry_, ServiceMetrics::Build(),
                                              std::chrono::system_clock::now());
  job_metrics_ = std::make_unique<JobMetricsTable>(*registry_);
  auto store = JobStore::Open(dir_ / "data");
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
  hub_ = std::make_unique<EventHub>();
  table_ = std::make_unique<JobTable>(
      JobTable::Dependencies{*store_, *hub_, *metrics_, *job_metrics_, clock_, logger_});
}

v1::JobSpec StoredJobsTest::SpecOf(int colocated, int64_t epochs) {
  v1::JobSpec spec;
  spec.mutable_sample()->set_batch_size(4);
  spec.mutable_train()->set_batch_size(4);
  spec.mutable_device()->set_device_batch_size(1);
  spec.set_num_epochs(epochs);
  spec.mutable_topology()->set_colocated(colocated);
  return Judged(spec).spec();
}

JobRecord& StoredJobsTest::Add(const v1::JobSpec& spec) {
  JobRecord record;
  *record.job.mutable_spec() = spec;
  const absl::StatusOr<JobRecord*> added = table_->Add(std::move(record), {});
  EXPECT_TRUE(added.ok()) << added.status();
  return **added;
}

const std::map<v1::JobState, std::vector<v1::JobState>>& StoredJobsTest::Ways() {
  static const std::map<v1::JobState, std::vector<v1::JobState>> ways = {
      {v1::QUEUED, {}},
      {v1::STARTING, {v1::STARTING}},
      {v1::RUNNING, {v1::STARTING, v1::RUNNING}},
      {v1::PAUSING, {v1::STARTING, v1::RUNNING, v1::PAUSING}},
      {v1::PAUSED, {v1::PAUSED}},
      {v1::RECOVERING, {v1::STARTING, v1::RECOVERING}},
      {v1::CANCELLING, {v1::STARTING, v1::CANCELLING}},
      {v1::SUCCEEDED, {v1::STARTING, v1::SUCCEEDED}},
      {v1::FAILED, {v1::FAILED}},
      {v1::CANCELLED, {v1::CANCELLED}},
  };
  return ways;
}

void StoredJobsTest::Move(JobRecord& record, const std::vector<v1::JobState>& states) {
  for (const v1::JobState state : states) {
    const absl::Status moved = table_->Transition(record, state, "");
    EXPECT_TRUE(moved.ok()) << moved;
  }
}

v1::Job StoredJobsTest::Stored(const std::string& id) {
  const auto record = store_->Get(id);
  EXPECT_TRUE(record.ok()) << record.status();
  return record.ok() ? record->job : v1::Job();
}

std::vector<v1::JobEvent> StoredJobsTest::Events(const std::string& id) {
  const auto page = store_->Events(id, 1, 1000);
  EXPECT_TRUE(page.ok()) << page.status();
  return page.ok() ? page->events : std::vector<v1::JobEvent>();
}

std::vector<v1::JobState> StoredJobsTest::States(const std::string& id) {
  std::vector<v1::JobState> states;
  for (const v1::JobEvent& event : Events(id)) {
    if (event.has_state()) states.push_back(event.state().state());
  }
  return states;
}

}  // namespace imageddpo

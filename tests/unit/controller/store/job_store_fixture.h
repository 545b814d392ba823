#pragma once

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

/// A store in a temporary directory.
class JobStoreTest : public testing::Test {
 protected:
  JobStoreTest() { Reopen(); }

  void Reopen() {
    store_.reset();
    auto store = JobStore::Open(dir_ / "data");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  JobRecord Insert(const std::string& request_id = "") {
    JobRecord record;
    record.request_id = request_id;
    record.request_sha256 = "hash";
    record.job.set_state(v1::QUEUED);
    record.job.mutable_spec()->set_name("n");
    record.job.mutable_create_time()->set_seconds(1700000000);
    v1::JobEvent event;
    event.mutable_state()->set_state(v1::QUEUED);
    const absl::Status status = store_->Insert(&record, {event});
    EXPECT_TRUE(status.ok()) << status;
    return record;
  }
  absl::Status Update(JobRecord* record, v1::JobState state) {
    record->job.set_state(state);
    v1::JobEvent event;
    event.set_number(++record->last_event);
    event.mutable_state()->set_state(state);
    return store_->Update(*record, {event});
  }

  TempDir dir_;
  std::unique_ptr<JobStore> store_;
};

}  // namespace imageddpo

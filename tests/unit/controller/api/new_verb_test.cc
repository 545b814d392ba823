// A new verb, added as CONTRIBUTING.md says: a method of JobService that the gRPC side reaches
// through JobApi, which stays as it is. Here the method is that of a derived class.

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_states.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/stored_jobs_fixture.h"
#include "trainer/controller/api/job_api.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;

/// JobService with one more verb.
class WithSkip final : public JobService {
 public:
  using JobService::JobService;

  /// Takes a waiting job out of the queue until the next start of the service.
  absl::StatusOr<v1::Job> Skip(const std::string& id) {
    IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord * record, Unfinished(id));
    if (!WaitsForRanks(record->job.state())) {
      return absl::FailedPreconditionError(
          absl::StrCat(id, " does not wait: ", StateName(record->job.state())));
    }
    scheduler_.RemoveFromQueue(id);
    table_.AddWarning(*record, "skipped by request");
    return record->job;
  }
};

/// Runs verbs on the calling thread.
class DirectApi final : public JobApi {
 public:
  explicit DirectApi(JobService& jobs) : jobs_(jobs) {}
  absl::StatusOr<v1::Job> Submit(const v1::SubmitJobRequest& request, const Caller& caller,
                                 absl::Duration) override {
    return jobs_.Submit(
        {Judged(request.job()), request.request_id(), "hash", std::nullopt, caller.owner});
  }
  absl::StatusOr<v1::Job> Branch(const v1::BranchJobRequest&, const Caller&,
                                 absl::Duration) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Job> Do(Verb verb, absl::Duration) override { return verb(jobs_); }
  absl::StatusOr<v1::Cluster> GetCluster(absl::Duration) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Cluster> Drain(const v1::DrainWorkerRequest&, absl::Duration) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Job> Get(const std::string&) const override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest&) const override {
    return absl::UnimplementedError("");
  }

 private:
  JobService& jobs_;
};

class NewVerbTest : public StoredJobsTest {
 protected:
  NewVerbTest() {
    v1::Hello hello;
    hello.set_hostname("host");
    hello.set_cores(8);
    pool_.WorkerReported(1, hello);
  }

  std::string Submitted() {
    v1::SubmitJobRequest request;
    *request.mutable_job() = SpecOf(1);
    const auto job = api_.Submit(request, Caller{.owner = "alice"}, absl::Seconds(1));
    EXPECT_TRUE(job.ok()) << job.status();
    return job->id();
  }
  /// What the handler of an rpc SkipJob would do.
  absl::StatusOr<v1::Job> Skip(const std::string& id) {
    return api_.Do([id](JobService& jobs) { return static_cast<WithSkip&>(jobs).Skip(id); },
                   absl::Seconds(1));
  }

  PosixFileSystem disk_;
  Scheduler pool_{{1}};
  Recovery recovery_{3, *table_, pool_};
  ArtifactWriter writer_{{}, disk_, clock_};
  RunningJobs running_{{},
                       {disk_, clock_, *table_, *hub_, *metrics_, *job_metrics_, pool_, recovery_,
                        logger_, writer_, [](int, const v1::ControllerMessage&) {}}};
  WithSkip jobs_{{*table_, pool_, running_, [] { return false; }}};
  DirectApi api_{jobs_};
};

TEST_F(NewVerbTest, TakesAMethodAlone) {
  const std::string first = Submitted(), second = Submitted();
  EXPECT_EQ(Skip(first)->state(), v1::QUEUED);
  EXPECT_THAT(Stored(first).warnings(), ElementsAre("skipped by request"));
  const std::vector<Scheduler::Gang> gangs = pool_.FormGangs();
  ASSERT_EQ(gangs.size(), 1u);
  EXPECT_EQ(gangs[0].job_id, second);
  running_.Start(gangs[0]);
  EXPECT_EQ(std::string(Skip(second).status().message()), second + " does not wait: STARTING");
  ASSERT_TRUE(api_.Do([&](JobService& jobs) { return jobs.Cancel(first); }, {}).ok());
  EXPECT_EQ(std::string(Skip(first).status().message()),
            first + " has already ended: CANCELLED; possible now: branch, delete, resume, update");
  EXPECT_TRUE(absl::IsNotFound(Skip("job-000099").status()));
}

}  // namespace
}  // namespace imageddpo

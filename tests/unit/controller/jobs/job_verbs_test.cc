// Every verb in every state; branches, updates and deletions.

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/config/job_states.h"
#include "gmock/gmock.h"
#include "tests/testing/judged.h"
#include "tests/unit/controller/jobs/checkpoints.h"
#include "tests/unit/controller/jobs/stored_jobs_fixture.h"
#include "trainer/controller/jobs/job_service.h"
#include "trainer/controller/jobs/job_state.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class JobVerbsTest : public StoredJobsTest {
 protected:
  static constexpr int kNumWorkers = 40;  // More than tests start.

  static std::vector<int> Ranks() {
    std::vector<int> ranks(kNumWorkers);
    std::iota(ranks.begin(), ranks.end(), 1);
    return ranks;
  }
  JobVerbsTest() {
    v1::Hello hello;
    hello.set_hostname("host");
    hello.set_cores(8);
    for (const int rank : Ranks()) pool_.WorkerReported(rank, hello);
  }

  /// A job in this state, with checkpoints after epochs 1 and 2 and the rows of 3 epochs.
  JobRecord& JobIn(v1::JobState state) {
    JobRecord& record = Add(SpecOf(1));
    const std::string& id = record.job.id();
    CheckpointStore checkpoints = running_.CheckpointsOf(id);
    EXPECT_TRUE(checkpoints.Open().ok());
    for (const int64_t epoch : {1, 2}) {
      EXPECT_TRUE(checkpoints.Save(CheckpointOf(epoch)).ok());
    }
    dir_.Write(absl::StrCat("data/jobs/", id, "/metrics.jsonl"),
               "{\"epoch\": 0}\n{\"epoch\": 1}\n{\"epoch\": 2}\n");
    std::vector<v1::JobState> way = Ways().at(state);
    if (HoldsRanks(state)) {
      StartGangOf(record);
      way.erase(way.begin());  // STARTING.
    }
    Move(record, way);
    return record;
  }
  void StartGangOf(const JobRecord& record) {
    pool_.Enqueue(record.number, record.job.id(), Judged(record.job.spec()));
    for (const Scheduler::Gang& gang : pool_.FormGangs()) {
      if (gang.job_id == record.job.id()) {
        running_.Start(gang);
      } else {  // Of a verb before.
        pool_.Release(gang.job_id);
      }
    }
  }
  /// The settings of SpecOf(1), changed.
  static JobService::NewJob Changed(const std::function<void(v1::JobSpec*)>& change,
                                    const std::string& request_id = "") {
    v1::JobSpec spec = SpecOf(1);
    change(&spec);
    return {Judged(spec), request_id, "hash"};
  }
  static JobService::NewJob Unchanged() {
    return Changed([](v1::JobSpec*) {});
  }
  static v1::UpdateJobRequest UpdateOf(const std::string& id) {
    v1::UpdateJobRequest request;
    request.set_id(id);
    return request;
  }
  /// The jobs in the queue, which all start.
  std::vector<std::string> TakeQueue() {
    std::vector<std::string> ids;
    for (const Scheduler::Gang& gang : pool_.FormGangs()) ids.push_back(gang.job_id);
    return ids;
  }

  PosixFileSystem disk_;
  Scheduler pool_{Ranks()};
  Recovery recovery_{3, *table_, pool_};
  ArtifactWriter writer_{{}, disk_, clock_};
  RunningJobs running_{{},
                       {disk_, clock_, *table_, *hub_, *metrics_, *job_metrics_, pool_, recovery_,
                        logger_, writer_, [](int, const v1::ControllerMessage&) {}}};
  JobService verbs_{{*table_, pool_, running_, [] { return false; }}};
};

TEST_F(JobVerbsTest, ATraceCoversOneToAHundredEpochs) {
  const std::string id = JobIn(v1::RUNNING).job.id();
  for (const int64_t epochs : {0, 101}) {
    EXPECT_EQ(verbs_.Profile(id, epochs).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(verbs_.Profile(id, 100).ok());
}

TEST_F(JobVerbsTest, EveryVerbInEveryState) {
  using Call = std::function<absl::Status(const std::string& id)>;
  const std::map<std::string, Call> calls = {
      {"branch", [&](auto& id) { return verbs_.Branch(id, 1, Unchanged()).status(); }},
      {"cancel", [&](auto& id) { return verbs_.Cancel(id).status(); }},
      {"checkpoint", [&](auto& id) { return verbs_.Checkpoint(id).status(); }},
      {"delete", [&](auto& id) { return verbs_.Delete(id).status(); }},
      {"pause", [&](auto& id) { return verbs_.Pause(id, true).status(); }},
      {"profile", [&](auto& id) { return verbs_.Profile(id, 1).status(); }},
      {"resume", [&](auto& id) { return verbs_.Resume(id, std::nullopt).status(); }},
      {"update",
       [&](auto& id) {
         v1::UpdateJobRequest request = UpdateOf(id);
         (*request.mutable_labels())["key"] = "value";
         return verbs_.Update(request).status();
       }},
  };
  for (const auto& [state, way] : Ways()) {
    const std::vector<std::string> possible = VerbsIn(state);
    for (const auto& [verb, call] : calls) {
      const std::string id = JobIn(state).job.id();
      const std::string before = store_->Get(id)->job.SerializeAsString();
      const size_t num_jobs = table_->All().size();
      const absl::Status status = call(id);
      const std::string what = absl::StrCat(verb, " when ", StateName(state));
      if (std::find(possible.begin(), possible.end(), verb) != possible.end()) {
        EXPECT_TRUE(status.ok()) << what << ": " << status;
        continue;
      }
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << what << ": " << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(id)) << what;
      EXPECT_THAT(std::string(status.message()), HasSubstr(StateName(state))) << what;
      EXPECT_THAT(std::string(status.message()), HasSubstr("possible now: branch, ")) << what;
      EXPECT_EQ(store_->Get(id)->job.SerializeAsString(), before) << what;
      EXPECT_EQ(States(id).size(), way.size() + 1) << what;
      EXPECT_EQ(table_->All().size(), num_jobs) << what;
      EXPECT_TRUE(std::filesystem::exists(store_->JobDir(id))) << what;
    }
  }
  for (const auto& [verb, call] : calls) {
    EXPECT_TRUE(absl::IsNotFound(call("job-999999"))) << verb;
  }
}

TEST_F(JobVerbsTest, ABranchHasTheCheckpointAndTheRowsBefore) {
  JobRecord& parent = JobIn(v1::RUNNING);
  const std::string parent_id = parent.job.id();
  v1::UpdateJobRequest update = UpdateOf(parent_id);
  update.set_priority(7);
  (*update.mutable_labels())["sweep"] = "rates";
  ASSERT_TRUE(verbs_.Update(update).ok());

  const absl::StatusOr<v1::Job> branch = verbs_.Branch(
      parent_id, 1,
      Changed([](v1::JobSpec* spec) { spec->mutable_train()->set_learning_rate(1e-5); }));
  ASSERT_TRUE(branch.ok()) << branch.status();
  const v1::Job stored = Stored(branch->id());
  EXPECT_EQ(stored.state(), v1::QUEUED);
  EXPECT_EQ(stored.branched_from(), parent_id);
  EXPECT_EQ(stored.branched_from_epoch(), 1);
  EXPECT_EQ(stored.priority(), 7);
  EXPECT_EQ(stored.labels().at("sweep"), "rates");
  EXPECT_EQ(stored.progress().epoch(), 1);
  EXPECT_EQ(stored.spec().train().learning_rate(), 1e-5);
  EXPECT_THAT(stored.lora_path(), HasSubstr(branch->id() + "/checkpoints/epoch-000001/"));
  EXPECT_EQ(dir_.Read(absl::StrCat("data/jobs/", branch->id(), "/metrics.jsonl")),
            "{\"epoch\": 0}\n");
  CheckpointStore checkpoints = running_.CheckpointsOf(branch->id());
  EXPECT_THAT(*checkpoints.Epochs(), ElementsAre(1));
  EXPECT_EQ(checkpoints.Get(1)->optimizer(), CheckpointOf(1).optimizer());
  EXPECT_THAT(*running_.CheckpointsOf(parent_id).Epochs(), ElementsAre(1, 2));
  EXPECT_EQ(Stored(parent_id).state(), v1::RUNNING);
  EXPECT_THAT(TakeQueue(), ElementsAre(branch->id()));
}

TEST_F(JobVerbsTest, ABranchStartsFromItsCheckpointOrNotAtAll) {
  const std::string parent_id = JobIn(v1::PAUSED).job.id();
  const std::string id = verbs_.Branch(parent_id, std::nullopt, Unchanged())->id();
  const std::string lost = verbs_.Branch(parent_id, 2, Unchanged())->id();
  std::filesystem::remove_all(store_->JobDir(lost) + "/checkpoints");
  for (const Scheduler::Gang& gang : pool_.FormGangs()) running_.Start(gang);
  EXPECT_EQ(Stored(id).state(), v1::STARTING);
  EXPECT_EQ(Stored(id).state_reason(), "starts from the checkpoint of epoch 2 of " + parent_id);
  EXPECT_EQ(Stored(id).resume_count(), 0);
  EXPECT_EQ(Stored(lost).state(), v1::FAILED);
  EXPECT_THAT(Stored(lost).state_reason(), HasSubstr("branch it again"));
}

TEST_F(JobVerbsTest, ABranchThatCannotBeIsRefusedAndLeavesNothing) {
  const std::string id = JobIn(v1::SUCCEEDED).job.id();
  const size_t num_jobs = table_->All().size();
  const absl::Status kept = verbs_
                                .Branch(id, 2, Changed([](v1::JobSpec* spec) {
                                          spec->mutable_lora()->set_rank(2);
                                          spec->mutable_model()->set_path("other");
                                          spec->mutable_train()->set_clip_range(0.1);
                                        }))
                                .status();
  EXPECT_TRUE(absl::IsInvalidArgument(kept)) << kept;
  EXPECT_THAT(std::string(kept.message()), HasSubstr("`lora.rank` cannot change"));
  EXPECT_THAT(std::string(kept.message()), HasSubstr("`model.path` cannot change"));
  EXPECT_THAT(std::string(kept.message()), testing::Not(HasSubstr("clip_range")));
  EXPECT_THAT(
      std::string(verbs_.Branch(id, 5, Unchanged()).status().message()),
      HasSubstr("there is no checkpoint of epoch 5; choose one of those that there are: 1, 2"));
  const std::string bare = Add(SpecOf(1)).job.id();
  EXPECT_THAT(std::string(verbs_.Branch(bare, std::nullopt, Unchanged()).status().message()),
              HasSubstr("has no complete checkpoint"));
  EXPECT_EQ(table_->All().size(), num_jobs + 1);
  EXPECT_THAT(pool_.FormGangs(), IsEmpty());
}

TEST_F(JobVerbsTest, ARepeatedBranchReturnsItsJob) {
  const std::string id = JobIn(v1::PAUSED).job.id();
  const auto ask = [&] { return verbs_.Branch(id, 1, Changed([](v1::JobSpec*) {}, "r")); };
  EXPECT_EQ(ask()->id(), ask()->id());
  EXPECT_THAT(table_->All(), SizeIs(2));
}

TEST_F(JobVerbsTest, AHigherPriorityStartsFirst) {
  std::vector<std::string> ids;
  for (int i = 0; i < 3; ++i) {
    JobService::NewJob job{Judged(SpecOf(2)), "", "hash"};
    job.priority = i == 1 ? 1 : 0;
    ids.push_back(verbs_.Submit(std::move(job))->id());
  }
  v1::UpdateJobRequest update = UpdateOf(ids[2]);
  update.set_priority(2);
  EXPECT_EQ(verbs_.Update(update)->priority(), 2);
  update.set_priority(1001);
  EXPECT_TRUE(absl::IsInvalidArgument(verbs_.Update(update).status()));
  EXPECT_EQ(Stored(ids[2]).priority(), 2);
  EXPECT_THAT(TakeQueue(), ElementsAre(ids[2], ids[1], ids[0]));
}

TEST_F(JobVerbsTest, AnUpdateIsWholeOrRefused) {
  const std::string id = JobIn(v1::PAUSED).job.id();
  table_->Find(id)->job.mutable_progress()->set_epoch(2);
  v1::UpdateJobRequest update = UpdateOf(id);
  EXPECT_TRUE(absl::IsInvalidArgument(verbs_.Update(update).status()));
  update.set_num_epochs(1);
  (*update.mutable_labels())["note"] = "longer";
  EXPECT_THAT(std::string(verbs_.Update(update).status().message()),
              HasSubstr("has trained 2 epochs"));
  EXPECT_THAT(Stored(id).labels(), IsEmpty());
  update.set_num_epochs(9);
  ASSERT_TRUE(verbs_.Update(update).ok());
  EXPECT_EQ(Stored(id).spec().num_epochs(), 9);
  EXPECT_EQ(Stored(id).progress().num_epochs(), 9);
  EXPECT_EQ(Stored(id).labels().at("note"), "longer");
  ASSERT_TRUE(verbs_.Resume(id, std::nullopt).ok());
  const std::vector<Scheduler::Gang> gangs = pool_.FormGangs();
  ASSERT_THAT(gangs, SizeIs(1));
  EXPECT_EQ(gangs[0].job.spec().num_epochs(), 9);
  running_.Start(gangs[0]);
  EXPECT_THAT(std::string(verbs_.Update(update).status().message()), HasSubstr("pause it"));

  v1::UpdateJobRequest labels = UpdateOf(id);
  (*labels.mutable_labels())["note"] = "";
  EXPECT_THAT(verbs_.Update(labels)->labels(), IsEmpty());
  (*labels.mutable_labels())["no key"] = "x";
  EXPECT_TRUE(absl::IsInvalidArgument(verbs_.Update(labels).status()));
  v1::UpdateJobRequest ended = UpdateOf(JobIn(v1::CANCELLED).job.id());
  ended.set_priority(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(verbs_.Update(ended).status()));
}

TEST_F(JobVerbsTest, ADeletedJobIsGone) {
  const std::string id = JobIn(v1::FAILED).job.id();
  const std::string other = JobIn(v1::CANCELLED).job.id();
  table_->DropFinished([](const std::string&) { return false; });
  EXPECT_EQ(verbs_.Delete(id)->state(), v1::FAILED);
  EXPECT_TRUE(absl::IsNotFound(store_->Get(id).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Events(id, 1, 10).status()));
  EXPECT_FALSE(std::filesystem::exists(store_->JobDir(id)));
  EXPECT_TRUE(std::filesystem::exists(store_->DeletedDir(id)));  // Its caller removes it.
  EXPECT_TRUE(absl::IsNotFound(verbs_.Delete(id).status()));
  EXPECT_EQ(Stored(other).state(), v1::CANCELLED);
  EXPECT_GT(Add(SpecOf(1)).number, 2);  // Its number is not used again.
}

TEST_F(JobVerbsTest, AJobWhoseLoraIsStillReadIsNotDeleted) {
  const std::string id = JobIn(v1::SUCCEEDED).job.id();
  v1::JobSpec spec = SpecOf(1);
  spec.mutable_lora()->set_init_from(store_->JobDir(id) + "/checkpoints/epoch-000002");
  const std::string reader = Add(spec).job.id();
  EXPECT_THAT(std::string(verbs_.Delete(id).status().message()), HasSubstr(reader + " is QUEUED"));
  ASSERT_TRUE(verbs_.Cancel(reader).ok());
  EXPECT_TRUE(verbs_.Delete(id).ok());
}

}  // namespace
}  // namespace imageddpo

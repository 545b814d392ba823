// Guards on learning as rank 0 sees them: events with numbers, and jobs that are taken back.
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "tests/unit/controller/jobs/supervisor_fixture.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class SupervisorRollbackTest : public SupervisorTest {
 protected:
  /// A job of 8 epochs on rank 1 with checkpoints of epochs 1 to 3, whose guard takes it back.
  std::string TakenBackTo(int64_t epochs) {
    const std::string id = Submit(SpecOf(1, 8)).id();
    Progress(1, id, "sampling");
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      Epoch(1, id, epoch);
      Checkpoint(1, id, epoch + 1);
    }
    sent_.clear();
    Ended(1, id, RollsBack(absl::OutOfRangeError("guard x: seen"), epochs));
    return id;
  }
};

TEST_F(SupervisorRollbackTest, TheJobGoesOnFromThereWithOtherNoise) {
  const std::string id = TakenBackTo(2);
  EXPECT_EQ(Stored(id).state(), v1::RECOVERING);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("guard x: seen; it goes on after epoch 2"));
  supervisor_->Tick();
  const std::vector<v1::ControllerMessage> sent = TakeSent(1);
  ASSERT_THAT(sent, SizeIs(1));
  const v1::StartJob& start = sent[0].start_job();
  EXPECT_EQ(start.resume_from().lora(), "LoRA 2");
  EXPECT_EQ(start.spec().guards().rollbacks(), 1);
  EXPECT_EQ(Stored(id).spec().guards().rollbacks(), 1);
  const JobRecord& record = *table_->Find(id);
  EXPECT_EQ(record.restarts_without_epoch, 0) << "it is not charged";
  EXPECT_EQ(record.epochs_reported, 2);
  const int64_t events = record.last_event;
  tags_[id] = start.gang().tag();
  Epoch(1, id, 2);
  Checkpoint(1, id, 3);
  EXPECT_EQ(record.epochs_reported, 3) << "epoch 2 is another one, and told again";
  EXPECT_GE(record.last_event, events + 3) << "RUNNING, the epoch and its checkpoint";
}

TEST_F(SupervisorRollbackTest, WithoutSuchACheckpointItIsPaused) {
  const std::string id = TakenBackTo(0);
  EXPECT_EQ(Stored(id).state(), v1::PAUSED);
  EXPECT_THAT(Stored(id).state_reason(), HasSubstr("`checkpoint.keep`"));
  EXPECT_EQ(Stored(id).spec().guards().rollbacks(), 0);
  EXPECT_EQ(Stored(id).progress().waiting_for(), "") << "its owner decides";
}

TEST_F(SupervisorRollbackTest, WithoutAnyCheckpointItStartsAgain) {
  const std::string id = Submit(SpecOf(1, 8)).id();
  Progress(1, id, "sampling");
  sent_.clear();
  Ended(1, id, RollsBack(absl::OutOfRangeError("guard x: seen"), 0));
  supervisor_->Tick();
  const std::vector<v1::ControllerMessage> sent = TakeSent(1);
  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_FALSE(sent[0].start_job().has_resume_from());
  EXPECT_EQ(sent[0].start_job().spec().guards().rollbacks(), 1);
}

TEST_F(SupervisorRollbackTest, AGuardsWordIsAWarningWithItsNumbers) {
  const std::string id = Submit(SpecOf(1, 8)).id();
  Progress(1, id, "sampling");
  v1::WorkerMessage message;
  message.mutable_guard()->set_job_id(id);
  message.mutable_guard()->set_guard("approx_kl");
  message.mutable_guard()->set_action("warn");
  message.mutable_guard()->set_epoch(3);
  message.mutable_guard()->set_value(0.5);
  message.mutable_guard()->set_limit(0.25);
  message.mutable_guard()->set_message("guard approx_kl, epoch 4: seen");
  supervisor_->OnMessage(1, message);
  ASSERT_THAT(Stored(id).warnings(), SizeIs(1));
  EXPECT_EQ(Stored(id).warnings(0), "guard approx_kl, epoch 4: seen");
  const auto page = table_->store().Events(id, 1, 100);
  ASSERT_TRUE(page.ok());
  const v1::GuardEvent& guard = page->events.back().warning().guard();
  EXPECT_EQ(guard.guard(), "approx_kl");
  EXPECT_EQ(guard.action(), "warn");
  EXPECT_EQ(guard.epoch(), 3);
  EXPECT_EQ(guard.value(), 0.5);
  EXPECT_EQ(guard.limit(), 0.25);
}

}  // namespace
}  // namespace imageddpo

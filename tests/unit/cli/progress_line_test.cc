#include "deploy/imageddpo/text/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/screen.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

v1::Job Deblur() {
  v1::Job job;
  job.set_id("job-000001");
  job.mutable_spec()->set_name("deblur");
  job.mutable_spec()->set_num_epochs(80);
  job.set_state(v1::QUEUED);
  return job;
}

v1::JobEvent State(v1::JobState state, const std::string& reason = "") {
  v1::JobEvent event;
  event.mutable_state()->set_state(state);
  event.mutable_state()->set_reason(reason);
  return event;
}

v1::JobEvent Epoch(int64_t epoch, double reward) {
  v1::JobEvent event;
  v1::EpochMetrics& values = *event.mutable_epoch();
  values.set_epoch(epoch);
  values.set_samples_seen((epoch + 1) * 128);
  values.set_reward_mean(reward);
  values.set_reward_std(0.8123);
  values.set_loss(-0.00123);
  values.set_approx_kl(1.2e-5);
  values.set_clipfrac(0.124);
  values.set_images_per_second(38.14);
  return event;
}

v1::JobEvent Progress() {
  v1::JobEvent event;
  v1::JobProgress& progress = *event.mutable_progress();
  progress.set_epoch(12);
  progress.set_num_epochs(80);
  progress.mutable_newest_epoch()->set_images_per_second(38.14);
  progress.set_seconds_left(192);
  progress.set_epoch_samples_done(64);
  progress.set_epoch_samples(128);
  progress.set_stage("sampling");
  return event;
}

TEST(ProgressLine, ShowsWhereTheJobIs) {
  ProgressLine line(Deblur());
  line.Add(State(v1::RUNNING));
  for (int epoch = 0; epoch < 12; ++epoch) line.Add(Epoch(epoch, 0.5 + 0.1 * epoch));
  line.Add(Progress());
  EXPECT_EQ(line.ForTerminal(200),
            "deblur ▕███▏                ▏  epoch 12/80  sampling 64/128  reward 1.6 ▁▁▂▃▃▄▅▆▆▇██"
            "  3m12s left  38.1 images/s");
}

TEST(ProgressLine, AWideTerminalHasPartsAndStagesToo) {
  ProgressLine line(Deblur());
  line.Add(State(v1::RUNNING));
  line.Add(Epoch(11, 1.5));
  v1::JobEvent progress = Progress();
  v1::EpochMetrics& newest = *progress.mutable_progress()->mutable_newest_epoch();
  newest.mutable_parts_mean()->insert({{"jpeg.value", -0.25}, {"classifier.correct", 0.75}});
  newest.mutable_stage_seconds()->insert({{"train", 0.75}, {"sample", 1.25}, {"reward", 0}});
  line.Add(progress);
  EXPECT_TRUE(line.ForTerminal(250).ends_with(
      "38.1 images/s  classifier.correct 0.75  jpeg.value -0.25  sample 1.2 s  train 0.8 s"))
      << line.ForTerminal(250);
  EXPECT_TRUE(line.ForTerminal(150).find("train") == std::string::npos);
}

TEST(ProgressLine, WithoutEpochsTheBarIsTheEvaluations) {
  v1::Job job = Deblur();
  job.mutable_spec()->set_num_epochs(0);
  ProgressLine line(job);
  EXPECT_EQ(line.ForTerminal(200), "deblur ▕                    ▏  QUEUED");
  line.Add(State(v1::RUNNING));
  v1::JobEvent event;
  event.mutable_progress()->set_stage("evaluating");
  event.mutable_progress()->set_epoch_samples_done(4);
  event.mutable_progress()->set_epoch_samples(8);
  line.Add(event);
  EXPECT_EQ(line.ForTerminal(200), "deblur ▕██████████          ▏  evaluating 4/8");
}

TEST(ProgressLine, NeverExceedsTheTerminal) {
  v1::Job job = Deblur();
  job.mutable_spec()->set_name(std::string(64, 'x'));
  ProgressLine line(job);
  line.Add(State(v1::RUNNING));
  line.Add(Epoch(0, 1));
  line.Add(Progress());
  for (size_t width = 0; width < 160; ++width) {
    EXPECT_LE(DisplayWidth(line.ForTerminal(width)), width);
  }
  EXPECT_THAT(line.ForTerminal(79), HasSubstr("epoch 12/80"));
  EXPECT_THAT(line.ForTerminal(79), Not(HasSubstr("images/s")));
}

TEST(ProgressLine, ShowsTheStateWhileTheJobDoesNotRun) {
  ProgressLine line(Deblur());
  EXPECT_THAT(line.ForTerminal(100), HasSubstr("epoch 0/80  QUEUED"));
  line.Add(State(v1::RECOVERING, "rank 2 died"));
  EXPECT_THAT(line.ForTerminal(100), HasSubstr("RECOVERING"));
  EXPECT_EQ(line.state(), v1::RECOVERING);
  EXPECT_EQ(line.state_reason(), "rank 2 died");
}

TEST(ProgressLine, ShowsWhatTheJobWaitsFor) {
  ProgressLine line(Deblur());
  line.Add(State(v1::RUNNING));
  v1::JobEvent progress = Progress();
  progress.mutable_progress()->set_waiting_for(
      "reward service 'taste' (127.0.0.1:50061) since 2026-01-31T08:15:30Z: connection refused");
  line.Add(progress);
  EXPECT_THAT(line.ForTerminal(80), HasSubstr("waits for reward service 'taste'"));
  EXPECT_LE(DisplayWidth(line.ForTerminal(80)), 80U);
  EXPECT_EQ(line.ForLog(progress),
            "epoch 12/80  waits for reward service 'taste' (127.0.0.1:50061) since "
            "2026-01-31T08:15:30Z: connection refused");
  line.Add(Progress());
  EXPECT_THAT(line.ForTerminal(80), Not(HasSubstr("waits")));
  line.Add(progress);
  line.Add(State(v1::PAUSED));
  EXPECT_THAT(line.ForTerminal(80), AllOf(HasSubstr("PAUSED"), Not(HasSubstr("waits"))));
}

TEST(ProgressLine, EpochsAfterAResumeReplaceThoseBefore) {
  ProgressLine line(Deblur());
  for (int epoch = 0; epoch < 5; ++epoch) line.Add(Epoch(epoch, epoch));
  line.Add(Epoch(3, 30));
  line.Add(Epoch(4, 40));
  EXPECT_EQ(line.first_reward(), 0);
  EXPECT_EQ(line.last_reward(), 40);
}

TEST(ProgressLine, SupervisedTrainingHasALossInPlaceOfRewards) {
  ProgressLine line(Deblur());
  v1::JobEvent event = Epoch(11, 0);
  event.mutable_epoch()->set_sft_loss(0.125);
  line.Add(event);
  EXPECT_THAT(line.ForLog(event), AllOf(HasSubstr("  loss 0.125"), Not(HasSubstr("reward"))));
  EXPECT_THAT(line.ForTerminal(100), Not(HasSubstr("reward")));
}

TEST(ProgressLine, LogHasALinePerEvent) {
  ProgressLine line(Deblur());
  line.Add(State(v1::RUNNING));
  line.Add(Progress());
  EXPECT_EQ(
      line.ForLog(Epoch(11, 1.5342)),
      "epoch 12/80  samples 1536  reward 1.534 ± 0.812  loss -0.00123  kl 1.2e-05  clipped 12%"
      "  38.1 images/s  3m12s left");
  EXPECT_EQ(line.ForLog(State(v1::RUNNING)), "job-000001 RUNNING");
  EXPECT_EQ(line.ForLog(State(v1::FAILED, "a\x1b[2J\nb")), "job-000001 FAILED: a\\x1B[2J; b");
  EXPECT_EQ(line.ForLog(Progress()), "epoch 12/80  sampling 64/128");
  v1::JobEvent eval;
  eval.mutable_eval()->set_epoch(10);
  eval.mutable_eval()->set_num_images(2000);
  eval.mutable_eval()->set_reward_mean(1.25);
  eval.mutable_eval()->set_reward_stderr(0.02);
  (*eval.mutable_eval()->mutable_parts_mean())["classifier.value"] = 1.25;
  (*eval.mutable_eval()->mutable_parts_mean())["classifier.correct"] = 0.55;
  EXPECT_EQ(line.ForLog(eval),
            "evaluation after 10 epochs, 2000 images: reward 1.25 ± 0.02 (standard error)"
            "  classifier.correct 0.55  classifier.value 1.25");
  v1::JobEvent checkpoint;
  checkpoint.mutable_checkpoint()->set_epoch(10);
  checkpoint.mutable_checkpoint()->set_path("/d/epoch-000010");
  EXPECT_EQ(line.ForLog(checkpoint), "checkpoint of epoch 10: /d/epoch-000010");
  v1::JobEvent warning;
  warning.mutable_warning()->set_message("ratio is off");
  EXPECT_EQ(line.ForLog(warning), "warning: ratio is off");
}

TEST(Screen, OnATerminalOneLineChanges) {
  std::ostringstream out;
  {
    Screen screen(out, /*is_terminal=*/true);
    screen.Status("a");
    screen.Status("a");
    screen.Line("stays");
    screen.Status("b");
    screen.Line("");
  }
  EXPECT_EQ(out.str(), "\r\x1b[Ka\r\x1b[Kstays\na\r\x1b[Kb\r\x1b[K");
}

TEST(Screen, InAFileThereAreOnlyLines) {
  std::ostringstream out;
  {
    Screen screen(out, /*is_terminal=*/false);
    screen.Status("a");
    screen.Line("stays");
    screen.Status("b");
  }
  EXPECT_EQ(out.str(), "stays\n");
}

}  // namespace
}  // namespace imageddpo

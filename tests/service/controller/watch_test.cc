// WatchJob: stored events from any number on, live ones, progress, many watchers.

#include <algorithm>
#include <chrono>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class WatchTest : public ServiceTest {
 protected:
  void SetUp() override { Start(); }

  static std::vector<int64_t> OneTo(int64_t n) {
    std::vector<int64_t> numbers(static_cast<size_t>(n));
    std::iota(numbers.begin(), numbers.end(), 1);
    return numbers;
  }
};

TEST_F(WatchTest, ShowsTheWholeLifeWithoutGaps) {
  const v1::Job job = MustSubmit(JobOf(3));
  const std::vector<v1::JobEvent> events = Watch(job.id(), 1);
  EXPECT_THAT(States(events), ElementsAre(v1::QUEUED, v1::STARTING, v1::RUNNING, v1::SUCCEEDED));
  EXPECT_EQ(events.back().state().state(), v1::SUCCEEDED);
  // 4 states, 3 epochs, 2 evaluations, checkpoints after 1, 2 and 3.
  EXPECT_EQ(Numbers(events), OneTo(12));

  std::vector<int64_t> epochs, evals, checkpoints;
  for (const v1::JobEvent& event : events) {
    EXPECT_GT(event.time().seconds(), 0);
    if (event.has_epoch()) epochs.push_back(event.epoch().epoch());
    if (event.has_eval()) evals.push_back(event.eval().epoch());
    if (event.has_checkpoint()) checkpoints.push_back(event.checkpoint().epoch());
  }
  EXPECT_THAT(epochs, ElementsAre(0, 1, 2));
  EXPECT_THAT(evals, ElementsAre(0, 3));
  EXPECT_THAT(checkpoints, ElementsAre(1, 2, 3));
}

TEST_F(WatchTest, StartsAtTheEventAskedFor) {
  const v1::Job job = WaitFor(MustSubmit(JobOf(3)).id(), v1::SUCCEEDED);
  EXPECT_THAT(Numbers(Watch(job.id(), 10)), ElementsAre(10, 11, 12));
  EXPECT_THAT(Numbers(Watch(job.id(), 12)), ElementsAre(12));
  EXPECT_THAT(Watch(job.id(), 13), IsEmpty());  // All seen: it ends at once.
  EXPECT_EQ(Numbers(Watch(job.id(), 0)), OneTo(12));
}

TEST_F(WatchTest, LiveEventsFollowStoredOnes) {
  script_.epochs_allowed = 2;
  const v1::Job job = MustSubmit(JobOf(4));
  WaitForEpoch(job.id(), 2);
  std::vector<v1::JobEvent> events;
  std::thread watcher([&] { events = Watch(job.id(), 4); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  script_.epochs_allowed = 100;
  watcher.join();
  const std::vector<int64_t> numbers = Numbers(events);
  ASSERT_FALSE(numbers.empty());
  EXPECT_EQ(numbers.front(), 4);
  for (size_t i = 1; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], numbers[i - 1] + 1);
  EXPECT_EQ(events.back().state().state(), v1::SUCCEEDED);
}

TEST_F(WatchTest, StoredOnlyEndsThoughTheJobGoesOn) {
  script_.epochs_allowed = 1;
  const v1::Job job = MustSubmit(JobOf(2));
  WaitForEpoch(job.id(), 1);
  v1::WatchJobRequest request;
  request.set_id(job.id());
  request.set_stored_only(true);
  grpc::ClientContext context;
  const auto reader = stub_->WatchJob(&context, request);
  std::vector<v1::JobEvent> events;
  for (v1::JobEvent event; reader->Read(&event);) events.push_back(event);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(States(events), ElementsAre(v1::QUEUED, v1::STARTING, v1::RUNNING));
  for (const v1::JobEvent& event : events) EXPECT_FALSE(event.has_progress());
  EXPECT_EQ(Numbers(events), OneTo(static_cast<int64_t>(events.size())));
  script_.epochs_allowed = 100;
  WaitFor(job.id(), v1::SUCCEEDED);
}

TEST_F(WatchTest, ProgressIsShownButNotStored) {
  script_.epochs_allowed = 1;
  const v1::Job job = MustSubmit(JobOf(2));
  WaitForEpoch(job.id(), 1);
  std::vector<v1::JobEvent> events;
  std::thread watcher([&] { events = Watch(job.id(), 1); });
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  script_.epochs_allowed = 100;
  watcher.join();
  std::vector<v1::JobProgress> progress;
  for (const v1::JobEvent& event : events) {
    if (!event.has_progress()) continue;
    EXPECT_EQ(event.number(), 0);
    progress.push_back(event.progress());
  }
  const auto after_first_epoch =
      std::find_if(progress.begin(), progress.end(),
                   [](const v1::JobProgress& shown) { return shown.epoch() == 1; });
  ASSERT_NE(after_first_epoch, progress.end());
  EXPECT_EQ(after_first_epoch->num_epochs(), 2);
  EXPECT_EQ(after_first_epoch->epoch_samples(), 8);
  EXPECT_EQ(after_first_epoch->seconds_left(), 0.25);
  for (const v1::JobEvent& event : Watch(job.id(), 1)) EXPECT_FALSE(event.has_progress());
}

TEST_F(WatchTest, ProgressComesAtMostFiveTimesASecond) {
  const auto start = std::chrono::steady_clock::now();
  const v1::Job job = MustSubmit(JobOf(40));
  const std::vector<v1::JobEvent> events = Watch(job.id(), 1);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto count = std::count_if(events.begin(), events.end(),
                                   [](const v1::JobEvent& event) { return event.has_progress(); });
  EXPECT_LE(static_cast<double>(count), 5 * seconds + 2);
  EXPECT_EQ(events.back().state().state(), v1::SUCCEEDED);
}

TEST_F(WatchTest, ManyWatchersSeeTheSame) {
  script_.epochs_allowed = 0;
  const v1::Job job = MustSubmit(JobOf(5));
  constexpr int kWatchers = 40;
  std::vector<std::vector<int64_t>> numbers(kWatchers);
  std::vector<std::thread> watchers;
  for (int i = 0; i < kWatchers; ++i) {
    watchers.emplace_back([&, i] { numbers[i] = Numbers(Watch(job.id(), 1)); });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  script_.epochs_allowed = 100;
  for (std::thread& watcher : watchers) watcher.join();
  for (const std::vector<int64_t>& seen : numbers) EXPECT_EQ(seen, numbers[0]);
  EXPECT_THAT(numbers[0], SizeIs(4 + 5 + 2 + 4));  // Checkpoints after 1, 2, 4 and 5.
}

TEST_F(WatchTest, AWatcherMayLeave) {
  script_.epochs_allowed = 0;
  const v1::Job job = MustSubmit(JobOf(1));
  {
    grpc::ClientContext context;
    v1::WatchJobRequest request;
    request.set_id(job.id());
    const auto reader = stub().WatchJob(&context, request);
    v1::JobEvent event;
    ASSERT_TRUE(reader->Read(&event));
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  script_.epochs_allowed = 100;
  WaitFor(job.id(), v1::SUCCEEDED);
}

TEST_F(WatchTest, UnknownJobsAreNotFound) {
  grpc::Status status;
  EXPECT_THAT(Watch("job-000042", 1, &status), IsEmpty());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(WatchTest, TheEndOfTheServiceSaysWhereToGoOn) {
  script_.epochs_allowed = 1;
  const v1::Job job = MustSubmit(JobOf(3));
  WaitForEpoch(job.id(), 1);
  std::vector<v1::JobEvent> before;
  grpc::Status status;
  std::thread watcher([&] { before = Watch(job.id(), 1, &status); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(Stop(), Controller::ExitReason::kStopped);
  watcher.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  const int64_t last = Numbers(before).back();
  EXPECT_THAT(status.error_message(), HasSubstr("from event " + std::to_string(last + 1)));

  script_.epochs_allowed = 100;
  Start();
  const std::vector<v1::JobEvent> after = Watch(job.id(), last + 1);
  EXPECT_EQ(Numbers(after).front(), last + 1);
  EXPECT_EQ(after.back().state().state(), v1::SUCCEEDED);
}

}  // namespace
}  // namespace imageddpo

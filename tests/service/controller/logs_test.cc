// StreamLogs of the real service.

#include <filesystem>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LogsTest : public ServiceTest {
 protected:
  struct Answer {
    std::vector<std::string> lines;  // "2: line 1"
    std::string cursor;
    grpc::Status status;
  };

  LogsTest() { script_.log_lines = 3; }

  std::string RunJob() {
    Start();
    return WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED).id();
  }

  static v1::StreamLogsRequest RequestOf(const std::string& id) {
    v1::StreamLogsRequest request;
    request.set_id(id);
    return request;
  }

  Answer Read(const v1::StreamLogsRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const auto reader = stub().StreamLogs(&context, request);
    Answer answer;
    for (v1::StreamLogsResponse response; reader->Read(&response);) {
      for (const v1::LogLine& line : response.lines()) {
        answer.lines.push_back(absl::StrCat(line.rank(), ": ", line.message()));
      }
      if (!response.cursor().empty()) answer.cursor = response.cursor();
    }
    answer.status = reader->Finish();
    return answer;
  }
};

TEST_F(LogsTest, LinesOfAllRanksAreFiltered) {
  const std::string id = RunJob();
  EXPECT_EQ(Read(RequestOf(id)).lines.size(), 6U);
  v1::StreamLogsRequest request = RequestOf(id);
  request.set_rank(2);
  EXPECT_THAT(Read(request).lines, ElementsAre("2: line 1", "2: line 2", "2: line 3"));
  request.set_tail(1);
  EXPECT_THAT(Read(request).lines, ElementsAre("2: line 3"));
  request.set_tail(0);
  request.mutable_since()->set_seconds(1'700'000'000);
  request.mutable_since()->set_nanos(2'000'000);
  EXPECT_THAT(Read(request).lines, ElementsAre("2: line 2", "2: line 3"));
  request.clear_since();
  request.set_min_level("warning");
  EXPECT_THAT(Read(request).lines, ElementsAre("2: line 3"));
  request.set_min_level("error");
  EXPECT_THAT(Read(request).lines, IsEmpty());
  request.set_follow(true);
  EXPECT_TRUE(Read(request).status.ok()) << "the job has ended";
}

TEST_F(LogsTest, WrongRequestsAreRefused) {
  const std::string id = RunJob();
  const auto code = [this](const v1::StreamLogsRequest& request) {
    return Read(request).status.error_code();
  };
  EXPECT_EQ(code(RequestOf("job-000077")), grpc::StatusCode::NOT_FOUND);
  v1::StreamLogsRequest request = RequestOf(id);
  request.set_min_level("loud");
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
  request = RequestOf(id);
  request.set_tail(-1);
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
  request = RequestOf(id);
  request.set_cursor("12");
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(LogsTest, ACursorGoesOnAlsoInANewFile) {
  const std::string id = RunJob();
  const Answer first = Read(RequestOf(id));
  const std::string log = "data/jobs/" + id + "/log.jsonl";
  std::filesystem::rename(dir_ / log, dir_ / (log + ".1"));
  v1::StreamLogsRequest request = RequestOf(id);
  request.set_cursor(first.cursor);
  EXPECT_THAT(Read(request).lines, IsEmpty());
  dir_.Write(log,
             "{\"time\":\"2026-01-31T08:15:30.000Z\",\"level\":\"info\",\"rank\":1,\"message\":"
             "\"new\"}\nno row\n{\"time\":\"unfinished");
  EXPECT_THAT(Read(request).lines, ElementsAre("1: new"));
  EXPECT_EQ(Read(RequestOf(id)).lines.size(), 7U) << "from the old file on";
  request.set_cursor("1:2:5");  // Of a file that is gone.
  EXPECT_EQ(Read(request).lines.size(), 7U);
  // Of one that is gone too, and whose number a later file has got.
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(first.cursor, absl::MaxSplits(':', 1));
  request.set_cursor(absl::StrCat(parts.first, ":7:5"));
  EXPECT_EQ(Read(request).lines.size(), 7U);
}

TEST_F(LogsTest, FollowsAJobToItsEnd) {
  script_.epochs_allowed = 0;
  Start();
  const std::string id = MustSubmit(JobOf(1)).id();
  v1::StreamLogsRequest request = RequestOf(id);
  request.set_follow(true);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = stub().StreamLogs(&context, request);
  v1::StreamLogsResponse response;
  int lines = 0;
  while (lines < 6 && reader->Read(&response)) lines += response.lines_size();
  EXPECT_EQ(lines, 6);
  script_.epochs_allowed = 1;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(Get(id).state(), v1::SUCCEEDED);
}

TEST_F(LogsTest, AServiceThatEndsSaysSo) {
  script_.epochs_allowed = 0;
  Start();
  v1::StreamLogsRequest request = RequestOf(MustSubmit(JobOf(1)).id());
  request.set_follow(true);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = stub().StreamLogs(&context, request);
  v1::StreamLogsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::thread stop([this] { Stop(); });
  while (reader->Read(&response)) {
  }
  const grpc::Status status = reader->Finish();
  stop.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("ending"));
}

}  // namespace
}  // namespace imageddpo

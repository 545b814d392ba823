#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/unit/controller/jobs/stored_jobs_fixture.h"
#include "trainer/controller/store/job_log.h"
#include "trainer/controller/web/curves.h"
#include "trainer/controller/web/event_cache.h"
#include "trainer/controller/web/log_lines.h"
#include "trainer/controller/web/page_routes.h"
#include "trainer/controller/web/pictures.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(RowCurves, RowsBecomeCurvesOverEpochsTrained) {
  std::istringstream rows(
      "{\"epoch\": 0, \"update\": 0, \"loss\": 1, \"parts_mean\": {\"a.value\": 5}}\n"
      "{\"epoch\": 0, \"update\": 1, \"loss\": null}\n"
      "no row\n"
      "{\"epoch\": 1, \"update\": 2, \"loss\": -2.5, \"skipped\": true}\n"
      "{\"epoch\": 2, \"loss\": 7");  // Being written.
  const CurveTable table = ReadCurves(rows);
  EXPECT_EQ(table.num_rows, 3u);
  ASSERT_EQ(table.series.size(), 3u);
  EXPECT_THAT(table.series.at("loss").x, ElementsAre(0.5, 1, 2));
  EXPECT_EQ(table.series.at("loss").y[0], 1);
  EXPECT_TRUE(std::isnan(table.series.at("loss").y[1]));
  EXPECT_THAT(table.series.at("parts_mean.a.value").x, ElementsAre(0.5));
  EXPECT_THAT(table.series.at("skipped").y, ElementsAre(1));
}

TEST(RowCurves, ThinningKeepsEndsExtremesAndGaps) {
  RowCurve series;
  for (int i = 0; i < 10'000; ++i) {
    series.x.push_back(i);
    series.y.push_back(std::sin(i / 100.0));
  }
  series.y[1234] = 50;
  series.y[7777] = -60;
  series.y[5000] = kNaN;
  const RowCurve thin = ThinCurve(series, 300);
  EXPECT_LE(thin.x.size(), 300u);
  EXPECT_GE(thin.x.size(), 150u);
  EXPECT_EQ(thin.x.front(), 0);
  EXPECT_EQ(thin.x.back(), 9999);
  EXPECT_TRUE(std::is_sorted(thin.x.begin(), thin.x.end()));
  const std::set<double> kept(thin.x.begin(), thin.x.end());
  for (const double x : {1234.0, 7777.0, 5000.0}) EXPECT_TRUE(kept.contains(x)) << x;
  EXPECT_EQ(ThinCurve(series, 10'000).x.size(), 10'000u);
  EXPECT_TRUE(ThinCurve({}, 10).x.empty());
}

TEST(RowCurves, AveragesAreOfNumbersAlone) {
  const RowCurve series{.x = {1, 2, 3, 4, 5, 6}, .y = {1, 3, kNaN, 8, kNaN, kNaN}};
  const RowCurve average = AverageCurve(series, 3);
  EXPECT_THAT(average.x, ElementsAre(2, 4, 6));
  EXPECT_EQ(average.y[0], 2);
  EXPECT_EQ(average.y[1], 8);
  EXPECT_TRUE(std::isnan(average.y[2]));
  EXPECT_THAT(AverageCurve(series, 100).y.size(), 6u);
  EXPECT_TRUE(AverageCurve({}, 3).x.empty());
}

TEST(RowCurves, TheLastPointsAreThoseAtTheEnd) {
  const RowCurve series{.x = {1, 2, 3}, .y = {4, 5, 6}};
  EXPECT_THAT(LastPoints(series, 2).x, ElementsAre(2, 3));
  EXPECT_THAT(LastPoints(series, 2).y, ElementsAre(5, 6));
  EXPECT_EQ(LastPoints(series, 9).x.size(), 3u);
  EXPECT_TRUE(LastPoints({}, 1).y.empty());
}

TEST(RowCurves, TheJsonIsValidWhateverTheNumbersAre) {
  CurveTable table{.num_rows = 2, .series = {}};
  table.series["a\"\xff"] = {.x = {1, 2}, .y = {kNaN, std::numeric_limits<double>::infinity()}};
  table.series["b"] = {.x = {1, 2}, .y = {1e-12, 0.25}};
  const auto json = nlohmann::json::parse(CurvesJson(table));
  EXPECT_EQ(json["rows"], 2);
  EXPECT_EQ(json["series"].size(), 2u);
  EXPECT_EQ(json["series"]["b"]["y"][1], 0.25);
  for (const auto& [name, series] : json["series"].items()) {
    if (name == "b") continue;
    EXPECT_TRUE(series["y"][0].is_null() && series["y"][1].is_null());
  }
}

class WebJobsTest : public StoredJobsTest {
 protected:
  void SetUp() override { id_ = Add(SpecOf(1)).job.id(); }

  void WriteFile(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = store_->JobDir(id_) + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
  }

  std::string id_;
};

TEST_F(WebJobsTest, PicturesAreListedByEpoch) {
  WriteFile("samples/epoch-000009/0-input.png", "in");
  WriteFile("eval/epoch-000010/0-output.png", "out");
  WriteFile("eval/epoch-000000/0-output.png", "out");
  WriteFile("eval/epoch-000000.jsonl", "{}");
  WriteFile("tensorboard/events", "x");
  const auto listed = PicturesJson(*store_, id_);
  ASSERT_TRUE(listed.ok()) << listed.status();
  const auto sets = nlohmann::json::parse(*listed)["sets"];
  ASSERT_EQ(sets.size(), 3u);
  EXPECT_EQ(sets[0]["kind"], "eval");
  EXPECT_EQ(sets[0]["epoch"], 0);
  EXPECT_EQ(sets[1]["epoch"], 10);
  EXPECT_EQ(sets[2]["kind"], "samples");
  EXPECT_EQ(sets[2]["pictures"], nlohmann::json({"0-input.png"}));
  EXPECT_TRUE(absl::IsNotFound(PicturesJson(*store_, "job-999999").status()));
}

TEST_F(WebJobsTest, NothingButPicturesCanBeRead) {
  WriteFile("eval/epoch-000010/0-output.png", "pixels");
  WriteFile("eval/epoch-000010/secret.txt", "x");
  WriteFile("metrics.jsonl", "x");
  const std::string name = "eval/epoch-000010/0-output.png";
  const auto picture = ReadPicture(*store_, id_, name);
  ASSERT_TRUE(picture.ok()) << picture.status();
  EXPECT_EQ(*picture, "pixels");

  const std::filesystem::path folder = store_->JobDir(id_) + "/eval/epoch-000010";
  std::filesystem::create_symlink("0-output.png", folder / "link.png");
  std::filesystem::create_directory_symlink(folder, folder.parent_path() / "epoch-000011");
  std::filesystem::create_directory(folder / "folder.png");
  for (const char* other :
       {"", "metrics.jsonl", "eval/epoch-000010/secret.txt", "eval/epoch-000010/link.png",
        "eval/epoch-000011/0-output.png", "eval/epoch-000010/folder.png",
        "eval/epoch-000010/none.png", "eval/epoch-000010/../epoch-000010/0-output.png",
        "eval/../eval/0-output.png", "../eval/epoch-000010/0-output.png",
        "/eval/epoch-000010/0-output.png", "eval/epoch-000010/.png", "eval//0-output.png",
        "checkpoints/epoch-000010/0-output.png", "eval/epoch-000010/%2e%2e.png"}) {
    EXPECT_TRUE(absl::IsNotFound(ReadPicture(*store_, id_, other).status())) << other;
  }
  EXPECT_TRUE(absl::IsNotFound(ReadPicture(*store_, "../" + id_, name).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadPicture(*store_, "", name).status()));
}

TEST_F(WebJobsTest, ScoresAreTheFirstRowsOfAnEvaluation) {
  WriteFile(
      "eval/epoch-000010.jsonl",
      "{\"id\": \"b\", \"reward\": 0.5, \"jpeg.value\": null}\n{\"id\": \"a\"}\nno row\n{\"id\":");
  const auto read = ScoresJson(*store_, id_, 10);
  ASSERT_TRUE(read.ok()) << read.status();
  const auto scores = nlohmann::json::parse(*read)["scores"];
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_EQ(scores[0]["reward"], 0.5);
  EXPECT_TRUE(scores[0]["jpeg.value"].is_null());
  EXPECT_EQ(scores[1]["id"], "a");
  EXPECT_EQ(nlohmann::json::parse(*ScoresJson(*store_, id_, 11))["scores"].size(), 0u);
  EXPECT_TRUE(absl::IsNotFound(ScoresJson(*store_, "job-999999", 10).status()));

  std::string rows;
  for (int i = 0; i < 20'000; ++i) rows += "{\"id\": \"a name of usual length\"}\n";
  WriteFile("eval/epoch-000012.jsonl", rows);
  EXPECT_EQ(nlohmann::json::parse(*ScoresJson(*store_, id_, 12))["scores"].size(), 64u);
}

TEST_F(WebJobsTest, ALogIsReadFromItsEndAndThenFollowed) {
  const auto row = [](int rank, const std::string& level, const std::string& message) {
    v1::LogReport report;
    report.set_unix_ms(1'700'000'000'000);
    report.set_level(level);
    report.set_message(message);
    return LogRow(rank, report);
  };
  std::string rows;
  for (int i = 0; i < 1500; ++i) rows += row(i % 2, "info", "line " + std::to_string(i));
  WriteFile("log.jsonl", rows);
  v1::StreamLogsRequest request;
  request.set_id(id_);
  const auto ask = [&] {
    const auto read = LogLinesJson(*store_, request);
    EXPECT_TRUE(read.ok()) << read.status();
    return read.ok() ? nlohmann::json::parse(*read) : nlohmann::json();
  };
  request.set_tail(2);
  request.set_rank(1);
  const auto tail = ask();
  ASSERT_EQ(tail["lines"].size(), 2u);
  EXPECT_EQ(tail["lines"][0]["message"], "line 1497");
  EXPECT_EQ(tail["lines"][1]["message"], "line 1499");
  EXPECT_EQ(tail["lines"][1]["rank"], 1);
  EXPECT_EQ(tail["more"], false);

  request.set_cursor(tail["cursor"].get<std::string>());
  request.clear_rank();
  EXPECT_EQ(ask()["lines"].size(), 0u);
  {
    std::ofstream file(store_->JobDir(id_) + "/log.jsonl", std::ios::app);
    file << row(0, "debug", "quiet") << row(0, "error", "loud") << "{\"half";
  }
  request.set_min_level("warning");
  const auto next = ask();
  ASSERT_EQ(next["lines"].size(), 1u);
  EXPECT_EQ(next["lines"][0]["message"], "loud");

  request.set_min_level("bad");
  EXPECT_TRUE(absl::IsInvalidArgument(LogLinesJson(*store_, request).status()));
  request.clear_min_level();
  request.set_cursor("made up");
  EXPECT_TRUE(absl::IsInvalidArgument(LogLinesJson(*store_, request).status()));
  request.set_id("job-999999");
  EXPECT_TRUE(absl::IsNotFound(LogLinesJson(*store_, request).status()));
}

TEST_F(WebJobsTest, EventsAreReadOnceAndOnlyThoseOfEpochsAndEvaluations) {
  EventCache cache(*store_);
  const auto before = cache.EventsOf(id_);
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_TRUE(before->empty());  // There is only the event of its state.
  JobRecord record = *store_->Get(id_);
  std::vector<v1::JobEvent> events(450);
  for (v1::JobEvent& event : events) {
    event.set_number(++record.last_event);
    event.mutable_epoch()->set_epoch(event.number());
  }
  ASSERT_TRUE(store_->Update(record, events).ok());
  EXPECT_EQ(cache.EventsOf(id_)->size(), 450u);
  EXPECT_EQ(cache.EventsOf(id_)->size(), 450u);
  EXPECT_TRUE(absl::IsNotFound(cache.EventsOf("job-999999").status()));
}

TEST(Page, HasNoScriptOrStyleThatItsPolicyForbids) {
  std::set<std::string> paths;
  for (const HttpRoute& route : PageRoutes()) {
    EXPECT_TRUE(route.is_open) << route.path;
    EXPECT_TRUE(paths.insert(route.path).second) << route.path;
    const HttpResponse response = route.handler({});
    EXPECT_FALSE(response.body.empty()) << route.path;
    EXPECT_THAT(response.etag, HasSubstr("\"")) << route.path;
    EXPECT_THAT(response.body, Not(HasSubstr("innerHTML"))) << route.path;
    EXPECT_THAT(response.body, Not(HasSubstr(" style=\""))) << route.path;
    EXPECT_THAT(response.body, Not(HasSubstr("http://1"))) << route.path;
  }
  const std::string index = PageRoutes().front().handler({}).body;
  for (const EmbeddedFile& file : PageFiles()) {
    const std::string path = file.name == "index.html" ? "/" : "/" + std::string(file.name);
    EXPECT_TRUE(paths.contains(path)) << path;
  }
  EXPECT_THAT(index, HasSubstr("<html lang=\"en\">"));
  EXPECT_THAT(index, Not(HasSubstr("<style")));
}

}  // namespace
}  // namespace imageddpo

// `imageddpo report` against a fake service, which has the pictures.

#include <filesystem>

#include "common/io/image.h"
#include "deploy/imageddpo/commands/commands.h"
#include "gmock/gmock.h"
#include "tests/service/cli/fake_service.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ReportCommandTest : public ::testing::Test {
 protected:
  ReportCommandTest() {
    job_.set_id("job-000001");
    job_.set_state(v1::SUCCEEDED);
    job_.mutable_spec()->set_name("deblur");
    job_.mutable_spec()->set_num_epochs(2);
    job_.mutable_spec()->mutable_eval()->set_num_pictures(4);
    job_.set_output_dir(dir_ / "job");
    service_.SetJob(job_);
    program_.address.address = service_.address();
    program_.is_interrupted = [] { return false; };
    program_.version = "0.2.0";
    AddReportCommand(app_, program_);
    for (const int64_t epoch : {0, 2}) {
      v1::JobEvent event;
      event.mutable_eval()->set_epoch(epoch);
      event.mutable_eval()->set_num_images(2);
      service_.AddEvent(event);
    }
    v1::JobEvent ended;
    ended.mutable_state()->set_state(v1::SUCCEEDED);
    service_.AddEvent(ended);
  }

  ExitCode Run(const std::string& arguments) {
    app_.parse(arguments);
    testing::internal::CaptureStdout();
    const ExitCode code = program_.action();
    out_ = testing::internal::GetCapturedStdout();
    return code;
  }

  /// One held-out image of 400 × 200 pixels and its results.
  void WritePictures() {
    const std::string png =
        *EncodePng({.width = 400, .height = 200, .rgb = std::vector<uint8_t>(240000, 90)});
    for (const char* name : {"eval/epoch-000000/0-input.png", "eval/epoch-000000/0-output.png",
                             "eval/epoch-000002/0-output.png"}) {
      service_.SetFile(name, png);
    }
    service_.SetFile("eval/epoch-000000.jsonl",
                     "{\"id\":\"cat.png\",\"reward\":0.25,\"seed\":0}\n"
                     "{\"id\":\"cat.png\",\"reward\":9,\"seed\":1}\n");
    service_.SetFile("eval/epoch-000002.jsonl", "{\"id\":\"cat.png\",\"reward\":null}\n");
  }

  static size_t Count(const std::string& text, const std::string& what) {
    size_t count = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
      ++count;
    return count;
  }

  TempDir dir_;
  v1::Job job_;
  FakeService service_;
  Program program_;
  CLI::App app_;
  std::string out_;
};

TEST_F(ReportCommandTest, WritesOneFileWithThePictures) {
  WritePictures();
  ASSERT_EQ(Run("report job-000001 -o " + (dir_ / "r.html")), ExitCode::kOk);
  EXPECT_EQ(out_, (dir_ / "r.html") + "\n");
  const std::string html = dir_.Read("r.html");
  EXPECT_EQ(Count(html, "src=\"data:image/png;base64,"), 3U);
  EXPECT_THAT(html, HasSubstr("<td>cat.png</td>"));
  EXPECT_THAT(html, HasSubstr("reward 0.25</td>"));
  EXPECT_THAT(html, Not(HasSubstr("reward 9</td>")));  // Another seed's.
  EXPECT_THAT(html, HasSubstr("imageddpo 0.2.0"));
}

TEST_F(ReportCommandTest, SaysThatThereAreNoPicturesAnyMore) {
  ASSERT_EQ(Run("report job-000001 -o " + (dir_ / "r.html")), ExitCode::kOk);
  EXPECT_THAT(dir_.Read("r.html"), HasSubstr("The service no longer has the files"));
}

TEST_F(ReportCommandTest, WritesMarkdown) {
  ASSERT_EQ(Run("report job-000001 job-000001 -o " + (dir_ / "r.md")), ExitCode::kOk);
  EXPECT_THAT(dir_.Read("r.md"),
              testing::StartsWith("# Report: job-000001 deblur, job-000001 deblur"));
  EXPECT_THAT(dir_.Read("r.md"), HasSubstr("## Compared\n"));
}

TEST_F(ReportCommandTest, RefusesWhatItCannotWriteOrFind) {
  EXPECT_EQ(Run("report job-000001 -o " + (dir_ / "r.pdf")), ExitCode::kUsage);
  EXPECT_EQ(Run("report job-000009 -o " + (dir_ / "r.html")), ExitCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "r.html"));
  EXPECT_THROW(app_.parse("report job-000001"), CLI::RequiredError);
}

}  // namespace
}  // namespace imageddpo

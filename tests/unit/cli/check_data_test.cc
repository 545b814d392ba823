// `imageddpo check-data`: what it prints, and with which code it ends.

#include <algorithm>
#include <string>
#include <vector>

#include "common/io/image.h"
#include "deploy/imageddpo/commands/commands.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/testing/npy.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CheckDataTest : public ::testing::Test {
 protected:
  CheckDataTest() {
    program_.is_interrupted = [] { return false; };
    AddCheckDataCommand(app_, program_);
  }
  void WritePng(const std::string& name, int width, int height) {
    std::vector<uint8_t> rgb(static_cast<size_t>(width) * height * 3, 9);
    dir_.Write(name, *EncodePng({.width = width, .height = height, .rgb = std::move(rgb)}));
  }
  ExitCode Run(const std::string& arguments) {
    app_.parse("check-data " + arguments);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const ExitCode code = program_.action();
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    return code;
  }

  TempDir dir_;
  Program program_;
  CLI::App app_;
  std::string out_, err_;
};

TEST_F(CheckDataTest, SaysWhatAFolderHolds) {
  WritePng("dog/1.png", 4, 2);
  WritePng("dog/2.png", 8, 8);
  WritePng("cat/1.png", 8, 8);
  dir_.Write("cat/1.txt", "a cat");
  dir_.Write("captions.json", "{}");
  EXPECT_EQ(Run(dir_.path() + " --resolution 8"), ExitCode::kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("images          3\n"), HasSubstr("cannot be read  0\n"),
                          HasSubstr("formats         3 PNG\n"),
                          HasSubstr("prompts         1 images, 1 different ones\n"),
                          HasSubstr("3 images, 2 classes from 0 to 1: 0 cat, 1 dog\n")));
  EXPECT_THAT(out_, AllOf(HasSubstr("for 8×8         1 are smaller and will be enlarged, 1 have"),
                          HasSubstr("8×8             2  █"), HasSubstr("4×2             1  █")));
  EXPECT_THAT(err_,
              AllOf(HasSubstr("warning: captions.json"), HasSubstr("warning: 2 of 3 images")));
}

TEST_F(CheckDataTest, NamesEveryBadFile) {
  for (int i = 0; i < 200; ++i) WritePng(std::to_string(i) + ".png", 3, 3);
  std::vector<std::string> bad;
  for (int i = 5; i < 200; i += 8) {
    bad.push_back(dir_.Write(std::to_string(i) + ".png", i % 16 == 5 ? "text" : ""));
  }
  EXPECT_EQ(Run(dir_.path() + " --threads 3"), ExitCode::kJobFailed);
  for (const std::string& path : bad) EXPECT_THAT(err_, HasSubstr("'" + path + "': "));
  EXPECT_THAT(out_, HasSubstr("cannot be read  25\n"));
  EXPECT_EQ(Run(dir_.path() + " -o json"), ExitCode::kJobFailed);
  const auto json = nlohmann::json::parse(out_);
  EXPECT_EQ(json["images"], 200);
  EXPECT_EQ(json["bad"].size(), 25);
  EXPECT_EQ(json["sizes"], nlohmann::json::parse(R"([{"width": 3, "height": 3, "images": 175}])"));
}

TEST_F(CheckDataTest, OneSeverityOfAnArray) {
  dir_.Write("fog.npy", NpyPictures(15));
  EXPECT_EQ(Run(dir_ / "fog.npy"), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("images          15\n"));
  EXPECT_EQ(Run(dir_ / "fog.npy --severity 5"), ExitCode::kOk);
  EXPECT_THAT(out_, AllOf(HasSubstr("images          3\n"), HasSubstr("formats         3 array")));
  EXPECT_EQ(Run(dir_.path() + " --severity 5"), ExitCode::kUsage);
  EXPECT_THAT(err_, HasSubstr("`data.severity`"));
}

TEST_F(CheckDataTest, NamesOfAnyBytesAreOneLineEach) {
  for (const char* name : {"caf\xe9.png", "a\nbad: b.png", "-rf.png", "\x1b[2J.png"}) {
    dir_.Write(name, "text");
  }
  EXPECT_EQ(Run(dir_.path()), ExitCode::kJobFailed);
  EXPECT_EQ(std::count(err_.begin(), err_.end(), '\n'), 4) << err_;
  for (const char* shown : {"caf\\xE9.png", "a\\x0Abad: b.png", "/-rf.png", "\\x1B[2J.png"}) {
    EXPECT_THAT(err_, HasSubstr(shown));
  }
  EXPECT_EQ(Run(dir_.path() + " -o json"), ExitCode::kJobFailed);
  EXPECT_EQ(nlohmann::json::parse(out_)["bad"].size(), 4);
}

TEST_F(CheckDataTest, AFolderThatCannotBeListedIsAWrongArgument) {
  EXPECT_EQ(Run(dir_ / "none"), ExitCode::kUsage);
  EXPECT_THAT(err_, HasSubstr(dir_ / "none"));
  WritePng("a.png", 1, 1);
  dir_.Write("metadata.csv", "file_name,caption\na.png,x\n");
  EXPECT_EQ(Run(dir_.path() + " --text-column captoin"), ExitCode::kUsage);
  EXPECT_EQ(Run(dir_.path() + " --text-column caption"), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("prompts         1 images"));
  EXPECT_EQ(Run(dir_.path() + " --resolution 5y"), ExitCode::kUsage);
}

}  // namespace
}  // namespace imageddpo

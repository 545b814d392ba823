#include "common/base/logging.h"

#include <filesystem>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

std::shared_ptr<spdlog::logger> Make(LogOptions options, std::ostringstream* stream) {
  options.stream = stream;
  absl::StatusOr<std::shared_ptr<spdlog::logger>> logger = MakeLogger(options);
  EXPECT_TRUE(logger.ok()) << logger.status();
  return *logger;
}

TEST(MakeLogger, PlainLinesCarryRankAndJob) {
  std::ostringstream stream;
  const auto logger = Make({.rank = 2}, &stream);
  logger->info("model loaded in {:.1f} s", 1.25);
  WithJob(*logger, "job-000001")->warn("slow");
  std::istringstream lines(stream.str());
  std::string line;
  std::getline(lines, line);
  EXPECT_TRUE(line.ends_with("Z info rank 2: model loaded in 1.2 s")) << line;
  std::getline(lines, line);
  EXPECT_TRUE(line.ends_with("Z warning rank 2 job-000001: slow")) << line;
}

TEST(MakeLogger, AFullFileMakesRoomForANewOne) {
  const TempDir dir;
  std::ostringstream stream;
  const auto logger =
      Make({.rank = 3, .file = dir / "logs/service.log", .max_file_bytes = 1000, .max_files = 2},
           &stream);
  for (int line = 0; line < 100; ++line) logger->info("line {} {}", line, std::string(100, 'x'));
  EXPECT_NE(dir.Read("logs/service.log.rank-3").find("line 99 x"), std::string::npos);
  EXPECT_NE(dir.Read("logs/service.log.1.rank-3").find(" info rank 3: line "), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(dir / "logs/service.log.2.rank-3"));
  EXPECT_FALSE(std::filesystem::exists(dir / "logs/service.log.3.rank-3"));
  EXPECT_LE(std::filesystem::file_size(dir / "logs/service.log.1.rank-3"), 1000);
  EXPECT_NE(stream.str().find("line 0 x"), std::string::npos) << "all lines go there as well";
}

TEST(MakeLogger, AFileThatCannotBeWrittenIsAnError) {
  const TempDir dir;
  dir.Write("file", "");
  const auto logger = MakeLogger({.rank = 0, .file = dir / "file/service.log"});
  EXPECT_EQ(logger.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(logger.status().message().find("`log.file`"), absl::string_view::npos);
}

TEST(MakeLogger, JsonLinesAreValidWhateverTheMessage) {
  std::ostringstream stream;
  const auto logger = Make({.rank = 0, .json = true}, &stream);
  const std::string message = "a \"b\" \\ c\n\td \x01 %v {}";
  WithJob(*logger, "job \"7\"")->error(message);
  const nlohmann::json line = nlohmann::json::parse(stream.str());
  EXPECT_EQ(line["message"], message);
  EXPECT_EQ(line["job"], "job \"7\"");
  EXPECT_EQ(line["rank"], 0);
  EXPECT_EQ(line["level"], "error");

  stream.str("");
  Make({.json = true}, &stream)->info("x");
  const nlohmann::json plain = nlohmann::json::parse(stream.str());
  EXPECT_FALSE(plain.contains("job"));
  EXPECT_FALSE(plain.contains("rank"));
}

TEST(MakeLogger, AMessageIsOneLineOfUtf8WhateverIsInIt) {
  std::ostringstream stream;
  Make({}, &stream)->info("caf\xe9\n\x1b[2J\u202e");
  EXPECT_TRUE(stream.str().ends_with(": caf\\xE9\\x0A\\x1B[2J\\xE2\\x80\\xAE\n")) << stream.str();
  stream.str("");
  Make({.json = true}, &stream)->info("caf\xe9\nnext");
  EXPECT_EQ(nlohmann::json::parse(stream.str())["message"], "caf\\xE9\nnext");
}

TEST(MakeLogger, DropsWhatIsBelowItsLevel) {
  std::ostringstream stream;
  const auto logger = Make({.level = "warning"}, &stream);
  logger->info("dropped");
  WithJob(*logger, "job-000001")->info("dropped as well");
  EXPECT_EQ(stream.str(), "");
  logger->warn("kept");
  EXPECT_NE(stream.str(), "");
}

TEST(MakeLogger, RefusesAnUnknownLevelAndNamesTheKnown) {
  const auto logger = MakeLogger({.level = "verbose"});
  ASSERT_EQ(logger.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(logger.status().message().find("\"verbose\""), std::string::npos);
  EXPECT_NE(logger.status().message().find("warning"), std::string::npos);
}

}  // namespace
}  // namespace imageddpo

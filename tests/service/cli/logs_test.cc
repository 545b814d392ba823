// `imageddpo logs`, `imageddpo help --man` and mistyped commands as processes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/service/cli/fake_service.h"
#include "tests/service/cli/program.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class LogsCommandTest : public ::testing::Test {
 protected:
  std::unique_ptr<ClientProgram> Begin(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--address", service_.address(), "logs", "job-000001"});
    return std::make_unique<ClientProgram>(dir_.path(), arguments);
  }

  TempDir dir_;
  FakeService service_;
};

TEST_F(LogsCommandTest, ShowsLinesOnALineEach) {
  service_.Log("loads\n\x1b[2J");
  service_.Log("trains");
  auto text = Begin(
      {"--rank", "2", "--level", "warning", "--tail", "7", "--since", "2023-11-14T22:13:20.5Z"});
  EXPECT_EQ(text->Wait(), 0) << text->err();
  EXPECT_EQ(text->out(),
            "2023-11-14T22:13:20.000Z warning rank 2: loads\\x0A\\x1B[2J\n"
            "2023-11-14T22:13:20.000Z warning rank 2: trains\n");
  const v1::StreamLogsRequest asked = service_.logs_asked().back();
  EXPECT_EQ(asked.rank(), 2);
  EXPECT_EQ(asked.min_level(), "warning");
  EXPECT_EQ(asked.tail(), 7);
  EXPECT_EQ(asked.since().seconds(), 1'700'000'000);
  EXPECT_EQ(asked.since().nanos(), 500'000'000);
  EXPECT_FALSE(asked.follow());
  auto json = Begin({"-o", "json"});
  EXPECT_EQ(json->Wait(), 0) << json->err();
  EXPECT_EQ(nlohmann::json::parse(json->out().substr(0, json->out().find('\n')))["message"],
            "loads\n\x1b[2J");
  EXPECT_FALSE(service_.logs_asked().back().has_rank());
  EXPECT_EQ(Begin({"--since", "yesterday"})->Wait(), 2);
  EXPECT_EQ(Begin({"--level", "loud"})->Wait(), 2);
}

TEST_F(LogsCommandTest, FollowsOverARestartOfTheService) {
  service_.Log("one");
  auto program = Begin({"-f"});
  ASSERT_TRUE(program->Shows("rank 2: one"));
  service_.Stop();
  service_.Start();
  service_.Log("two");
  ASSERT_TRUE(program->Shows("rank 2: two"));
  service_.Log("three", /*is_last=*/true);
  EXPECT_EQ(program->Wait(), 0) << program->err();
  const std::string out = program->out();
  EXPECT_EQ(out.find("one"), out.rfind("one")) << "each line once: " << out;
  EXPECT_THAT(program->err(), HasSubstr("waiting up to 10m00s"));
  EXPECT_EQ(service_.logs_asked().back().cursor(), "1");
}

TEST(MistypedWords, AreToldWithWhatWasMeant) {
  struct Case {
    std::vector<std::string> arguments;
    std::string told;
  };
  const TempDir dir;
  for (const Case& mistyped : std::vector<Case>{
           {{"sumbit", "job.yaml"}, "there is no command `sumbit`; did you mean `submit`?"},
           {{"help", "sumbit"}, "there is no command `sumbit`; did you mean `submit`?"},
           {{"admin", "tokn"}, "there is no command `tokn`; did you mean `token`?"},
           {{"get", "job-000001", "--outptu", "json"},
            "imageddpo get has no option --outptu; did you mean `--output`?"},
           {{"admin", "token", "create", "--onwer=me"},
            "imageddpo admin token create has no option --onwer; did you mean `--owner`?"},
           {{"get"}, "required"}}) {
    ClientProgram program(dir.path(), mistyped.arguments);
    EXPECT_EQ(program.Wait(), 2);
    EXPECT_THAT(program.err(), HasSubstr(mistyped.told));
  }
}

TEST(ManualPage, HasAnExampleForEachCommand) {
  const TempDir dir;
  ClientProgram program(dir.path(), {"help", "--man"});
  EXPECT_EQ(program.Wait(), 0) << program.err();
  const std::string page = program.out();
  int commands = 0;
  for (size_t at = page.find("\n.SS "), next = 0; at != std::string::npos; at = next) {
    next = page.find("\n.SS ", at + 1);
    const std::string section = page.substr(at + 5, next - at - 5);
    const std::string name = section.substr(0, section.find('\n'));
    if (name.find(' ') != std::string::npos) continue;  // `admin token`: `admin` has examples.
    EXPECT_THAT(section, HasSubstr("Example")) << name;
    ++commands;
  }
  EXPECT_GE(commands, 30);
}

}  // namespace
}  // namespace imageddpo

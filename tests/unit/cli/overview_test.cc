// The commands cluster, top, whoami, sweep, compare, completion and help.

#include "deploy/imageddpo/commands/overview/overview.h"

#include <set>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "tests/service/cli/fake_service.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class OverviewTest : public ::testing::Test {
 protected:
  OverviewTest() {
    job_.set_id("job-000001");
    job_.set_state(v1::RUNNING);
    job_.mutable_spec()->set_name("deblur");
    (*job_.mutable_labels())[kSweepLabel] = "rates";
    service_.SetJob(job_);
    v1::JobEvent ended;
    ended.mutable_state()->set_state(v1::SUCCEEDED);
    service_.AddEvent(ended);
    v1::Cluster cluster;
    v1::Host& host = *cluster.add_hosts();
    host.set_name("gpu7");
    for (const int number : {1, 2}) {
      v1::Rank& rank = *host.add_ranks();
      rank.set_rank(number);
      rank.set_device("cuda:0");
      rank.set_cores(8);
      rank.set_state(number == 1 ? v1::RANK_BUSY : v1::RANK_IDLE);
      if (number == 1) rank.set_job_id("job-000001");
      rank.set_drained(number == 1);
    }
    cluster.set_healthy(true);
    cluster.set_version("0.2.0");
    service_.SetCluster(cluster);
    program_.address.address = service_.address();
    program_.is_interrupted = [] { return false; };
    dir_.Write("job.yaml",
               "model: {path: m}\ndata: {path: d}\n"
               "rewards: [{type: jpeg, measure: compressibility}]\nnum_epochs: 6\n");
  }

  void AddAll(CLI::App& app) {
    app.require_subcommand(1);
    AddGetCommand(app, program_);
    AddLogsCommand(app, program_);
    AddClusterCommand(app, program_);
    AddTopCommand(app, program_);
    AddWhoamiCommand(app, program_);
    AddSweepCommand(app, program_);
    AddCompareCommand(app, program_);
    AddHelpCommand(app, program_);
    AddCompletionCommand(app, program_);
  }

  /// Standard output of `imageddpo ARGUMENTS`.
  std::string Run(const std::string& arguments, ExitCode expected = ExitCode::kOk) {
    CLI::App app("about", "imageddpo");
    AddAll(app);
    app.parse(arguments);
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    EXPECT_EQ(program_.action(), expected) << arguments;
    error_ = testing::internal::GetCapturedStderr();
    return testing::internal::GetCapturedStdout();
  }

  TempDir dir_;
  FakeService service_;
  v1::Job job_;
  Program program_;
  std::string error_;
};

TEST_F(OverviewTest, ClusterShowsRanks) {
  const std::string text = Run("cluster");
  EXPECT_THAT(text, HasSubstr("gpu7"));
  EXPECT_THAT(text, HasSubstr("busy, draining"));
  EXPECT_THAT(text, HasSubstr("job-000001"));
  EXPECT_THAT(text, HasSubstr("1 of 1 ranks free; the service 0.2.0 is well\n"));
  EXPECT_THAT(Run("cluster -o json"), HasSubstr("\"state\": \"RANK_BUSY\""));
}

TEST_F(OverviewTest, DrainTakesRanksAndHosts) {
  EXPECT_THAT(Run("cluster drain 2 gpu7"), HasSubstr("RANK"));
  EXPECT_THAT(service_.drained().ranks(), ElementsAre(2));
  EXPECT_THAT(service_.drained().hosts(), ElementsAre("gpu7"));
  EXPECT_FALSE(service_.drained().undrain());
  Run("cluster undrain 2");
  EXPECT_TRUE(service_.drained().undrain());
}

TEST_F(OverviewTest, TopShowsThemOnceWithoutATerminal) {
  const std::string text = Run("top --once");
  EXPECT_THAT(text, HasSubstr("gpu7"));
  EXPECT_THAT(text, HasSubstr("deblur"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  job_.set_state(v1::SUCCEEDED);
  service_.SetJob(job_);
  EXPECT_THAT(Run("top --once"), HasSubstr("No job runs or waits.\n"));
}

TEST_F(OverviewTest, WhoamiTells) {
  const std::string text = Run("whoami");
  EXPECT_THAT(text, HasSubstr("owner    alice\nrole     submitter\nby       a token\n"));
  EXPECT_THAT(text, HasSubstr("expires  2023-11-14 22:13:20 UTC\n"));
}

TEST(Grid, HasEveryCombination) {
  const auto grid = GridOf({"a=1,2", "b=[1,2],'x,y'"});
  ASSERT_TRUE(grid.ok()) << grid.status();
  EXPECT_THAT(*grid, ElementsAre(ElementsAre("a=1", "b=[1,2]"), ElementsAre("a=1", "b='x,y'"),
                                 ElementsAre("a=2", "b=[1,2]"), ElementsAre("a=2", "b='x,y'")));
  EXPECT_THAT(*GridOf({}), ElementsAre(IsEmpty()));
  for (const char* wrong : {"a", "=1", "a="}) {
    EXPECT_TRUE(absl::IsInvalidArgument(GridOf({wrong}).status())) << wrong;
  }
  const std::string many = "a=" + std::string(200, ',');
  EXPECT_TRUE(absl::IsInvalidArgument(GridOf({many, many}).status()));
}

TEST_F(OverviewTest, SweepSubmitsEveryCombinationOnce) {
  const std::string sweep = "sweep " + (dir_ / "job.yaml") +
                            " --grid train.learning_rate=1e-4,3e-4 --seeds 2 --label rates";
  const std::string dry = Run(sweep + " --dry-run");
  EXPECT_THAT(dry, HasSubstr("job-1  train.learning_rate=1e-4 seed=42\n"));
  EXPECT_THAT(dry, HasSubstr("4 jobs; nothing was submitted\n"));
  EXPECT_THAT(service_.submitted(), IsEmpty());
  EXPECT_THAT(Run(sweep), HasSubstr("4 jobs. Compare them: imageddpo compare rates\n"));
  Run(sweep);  // As after an interruption.
  const auto submitted = service_.submitted();
  ASSERT_EQ(submitted.size(), 8U);
  std::set<std::string> ids;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(submitted[i].request_id(), submitted[i + 4].request_id()) << "the same job";
    EXPECT_LE(submitted[i].request_id().size(), 128U);
    EXPECT_EQ(submitted[i].labels().at("sweep"), "rates");
    EXPECT_EQ(submitted[i].job().seed(), 42 + i % 2);
    EXPECT_EQ(submitted[i].job().train().learning_rate(), i < 2 ? 1e-4 : 3e-4);
    ids.insert(submitted[i].request_id());
  }
  EXPECT_EQ(ids.size(), 4U);
}

TEST_F(OverviewTest, ASweepWithAWrongValueSubmitsNothing) {
  Run("sweep " + (dir_ / "job.yaml") + " --grid train.learning_rate=1e-4,-1 --label rates",
      ExitCode::kUsage);
  EXPECT_THAT(error_, HasSubstr("train.learning_rate=-1"));
  EXPECT_THAT(service_.submitted(), IsEmpty());
}

TEST_F(OverviewTest, CompareFindsJobsByLabelAndId) {
  EXPECT_THAT(Run("compare rates"), HasSubstr("job-000001"));
  EXPECT_THAT(Run("compare sweep=rates"), HasSubstr("job-000001"));
  EXPECT_THAT(Run("compare job-000001 -o md"), HasSubstr("| job-000001 |"));
  Run("compare nothing", ExitCode::kNotFound);
  EXPECT_THAT(error_, HasSubstr("no job has the label nothing"));
}

TEST_F(OverviewTest, WordsAreCompleted) {
  CLI::App app("about", "imageddpo");
  app.add_option("--address", program_.address.address);
  AddAll(app);
  EXPECT_THAT(Completions(app, "imageddpo c"), ElementsAre("cluster", "compare", "completion"));
  EXPECT_THAT(Completions(app, "imageddpo cluster "), ElementsAre("drain", "undrain"));
  EXPECT_THAT(Completions(app, "imageddpo get "), ElementsAre("ID"));
  EXPECT_THAT(Completions(app, "imageddpo --address x get job-"), ElementsAre("ID"));
  EXPECT_THAT(Completions(app, "imageddpo logs job-000001 --fo"), ElementsAre("--follow"));
  EXPECT_THAT(Completions(app, "imageddpo get job-000001 --addr"), ElementsAre("--address"));
  EXPECT_THAT(Completions(app, "imageddpo sweep --label "), IsEmpty()) << "a value";
  EXPECT_THAT(Completions(app, "imageddpo _"), IsEmpty()) << "not for people";
  EXPECT_THAT(Completions(app, ""), IsEmpty());
  EXPECT_EQ(Run("__complete 'imageddpo get job-'"), "job-000001\n");
  service_.Stop();
  EXPECT_EQ(Run("__complete 'imageddpo get job-'"), "") << "a shell waits for no service";
  for (const char* shell : {"bash", "zsh", "fish"}) {
    EXPECT_THAT(Run(std::string("completion ") + shell), HasSubstr("__complete"));
  }
}

TEST_F(OverviewTest, TheManualPageHasEveryCommand) {
  const std::string page = Run("help --man");
  EXPECT_THAT(page, testing::StartsWith(".TH IMAGEDDPO 1\n"));
  for (const char* name : {"get", "logs", "cluster", "cluster drain", "sweep", "whoami"}) {
    EXPECT_THAT(page, HasSubstr(std::string("\n.SS ") + name + "\n"));
  }
  EXPECT_THAT(page, Not(HasSubstr("__complete")));
  EXPECT_THAT(page, HasSubstr("\\-\\-follow"));
  EXPECT_THAT(Run("help sweep"), HasSubstr("--grid"));
  EXPECT_THAT(Run("help"), HasSubstr("whoami"));
  Run("help nonsense", ExitCode::kUsage);
}

}  // namespace
}  // namespace imageddpo

// The built client against a service that plays back what a test has written.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/config/service_file.h"
#include "tests/service/cli/fake_service.h"
#include "tests/service/cli/program.h"
#include "tests/service/cli/slow_connection.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

v1::JobEvent State(v1::JobState state, const std::string& reason = "") {
  v1::JobEvent event;
  event.mutable_state()->set_state(state);
  event.mutable_state()->set_reason(reason);
  return event;
}

v1::JobEvent Epoch(int64_t epoch, double reward) {
  v1::JobEvent event;
  event.mutable_epoch()->set_epoch(epoch);
  event.mutable_epoch()->set_reward_mean(reward);
  return event;
}

class CliTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "cli-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    job_.set_id("job-000001");
    job_.mutable_spec()->set_name("deblur");
    job_.mutable_spec()->set_num_epochs(6);
    job_.set_state(v1::QUEUED);
    service_.SetJob(job_);
    std::ofstream(folder_ + "/deblur.yaml")
        << "model: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: compressibility}]\n"
           "num_epochs: 6\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// Runs to its end against the service.
  ClientProgram& Run(std::vector<std::string> arguments, int exit_code) {
    arguments.insert(arguments.begin(), {"--address", service_.address()});
    program_ = std::make_unique<ClientProgram>(folder_, arguments);
    EXPECT_EQ(program_->Wait(), exit_code) << program_->out() << program_->err();
    return *program_;
  }

  void End(v1::JobState state, const std::string& reason = "") {
    job_.set_state(state);
    job_.set_state_reason(reason);
    job_.mutable_progress()->set_epoch(6);
    job_.set_lora_path("/data/lora.safetensors");
    service_.SetJob(job_);
    service_.AddEvent(State(state, reason));
  }

  FakeService service_;
  v1::Job job_;
  std::string folder_;
  std::unique_ptr<ClientProgram> program_;
};

TEST_F(CliTest, SubmitSendsTheJobAsGiven) {
  Run({"submit", folder_ + "/deblur.yaml", "--set", "sample.num_steps=7", "--request-id", "r1"}, 0);
  EXPECT_EQ(program_->out(), "job-000001 QUEUED (deblur)\nWatch it: imageddpo watch job-000001\n");
  const auto submitted = service_.submitted();
  ASSERT_EQ(submitted.size(), 1U);
  EXPECT_EQ(submitted[0].request_id(), "r1");
  EXPECT_EQ(submitted[0].job().name(), "deblur") << "the file's";
  EXPECT_EQ(submitted[0].job().sample().num_steps(), 7);
  EXPECT_FALSE(submitted[0].job().has_seed()) << "defaults are the service's";
  Run({"submit", folder_ + "/deblur.yaml", "-o", "id"}, 0);
  EXPECT_EQ(program_->out(), "job-000001\n");
  EXPECT_EQ(service_.submitted()[1].request_id().size(), 32U) << "a random one";
}

TEST_F(CliTest, AServiceThatIsSlowToAnswerIsWaitedFor) {
  const SlowConnection slow(service_.address(), std::chrono::seconds(1));
  program_ = std::make_unique<ClientProgram>(
      folder_, std::vector<std::string>{"--address", slow.address(), "get", "job-000001"});
  EXPECT_EQ(program_->Wait(), 0) << program_->err();
  EXPECT_THAT(program_->out(), HasSubstr("job-000001"));
}

TEST_F(CliTest, AnInvalidJobIsNotSent) {
  Run({"submit", folder_ + "/deblur.yaml", "--set", "num_epochs=0"}, 2);
  EXPECT_THAT(program_->err(), HasSubstr("`num_epochs` is 0"));
  Run({"submit", folder_ + "/none.yaml"}, 2);
  EXPECT_THAT(program_->err(), HasSubstr("none.yaml does not exist"));
  EXPECT_THAT(service_.submitted(), IsEmpty());
}

TEST_F(CliTest, WhatTheServiceRefusesIsAUsageError) {
  Run({"submit", folder_ + "/deblur.yaml", "--set", "model.path=/outside"}, 2);
  EXPECT_EQ(program_->err(), "imageddpo: `model.path`: /outside does not exist\n");
}

TEST_F(CliTest, SubmitAndWatchEndsAsTheJobDoes) {
  job_.add_warnings("the prompt is not used");
  service_.SetJob(job_);
  service_.AddEvent(State(v1::QUEUED));
  service_.AddEvent(State(v1::RUNNING));
  for (int epoch = 0; epoch < 6; ++epoch) service_.AddEvent(Epoch(epoch, 0.5 + epoch));
  End(v1::SUCCEEDED);
  Run({"submit", folder_ + "/deblur.yaml", "--watch"}, 0);
  EXPECT_THAT(program_->out(), HasSubstr("epoch 6/6"));
  EXPECT_THAT(program_->out(),
              HasSubstr("job-000001 SUCCEEDED after -, 6 epochs: reward 0.5 → 5.5\n"));
  EXPECT_THAT(program_->out(), HasSubstr("LoRA: /data/lora.safetensors\n"));
  EXPECT_THAT(program_->out(), Not(HasSubstr("\x1b"))) << "no terminal";
  EXPECT_EQ(program_->err(), "warning: the prompt is not used\n");
}

TEST_F(CliTest, OnATerminalOneLineChanges) {
  service_.AddEvent(State(v1::RUNNING));
  service_.AddEvent(Epoch(0, 0.5));
  service_.AddEvent(State(v1::RECOVERING, "rank 2 died"));
  End(v1::SUCCEEDED);
  const std::string text = OnTerminal({"--address", service_.address(), "watch", "job-000001"}, 70);
  EXPECT_THAT(text, HasSubstr("\r\x1b[Kdeblur ▕███▎                ▏  epoch 1/6  RECOVERING"));
  EXPECT_THAT(text, HasSubstr("\r\x1b[Kjob-000001 RECOVERING: rank 2 died\r\n"));
  EXPECT_THAT(text, Not(HasSubstr("epoch 1/6  samples"))) << "epochs are in the changing line";
  EXPECT_THAT(text, HasSubstr("\r\x1b[Kjob-000001 SUCCEEDED after"));
}

TEST_F(CliTest, AServiceThatIsEndingSaysSoItself) {
  Run({"submit", folder_ + "/deblur.yaml", "--set", "model.path=/restarting", "--request-id", "r7"},
      4);
  EXPECT_EQ(
      program_->err(),
      "imageddpo: the service is about to restart; try again\nWhether the job was accepted is "
      "not known. To submit it once and only once, repeat this with --request-id r7\n");
}

TEST_F(CliTest, AFailedJobIsExitCode1WithItsReason) {
  End(v1::FAILED, "rank 2 was killed by signal 9");
  Run({"watch", "job-000001"}, 1);
  EXPECT_EQ(program_->err(), "imageddpo: rank 2 was killed by signal 9\n");
}

TEST_F(CliTest, ACancelledJobIsExitCode1) {
  End(v1::CANCELLED);
  Run({"watch", "job-000001"}, 1);
}

TEST_F(CliTest, WatchingSurvivesARestartOfTheService) {
  service_.AddEvent(State(v1::RUNNING));
  for (int epoch = 0; epoch < 3; ++epoch) service_.AddEvent(Epoch(epoch, epoch));
  program_ = std::make_unique<ClientProgram>(
      folder_, std::vector<std::string>{"watch", "job-000001", "--address", service_.address()});
  ASSERT_TRUE(program_->Shows("epoch 3/6"));
  service_.Stop();
  ASSERT_TRUE(program_->Shows("The connection to the service is lost; waiting up to 10m00s"));
  service_.AddEvent(State(v1::RECOVERING, "the service was restarted"));
  for (int epoch = 3; epoch < 6; ++epoch) service_.AddEvent(Epoch(epoch, epoch));
  service_.Start();
  ASSERT_TRUE(program_->Shows("The service is back."));
  ASSERT_TRUE(program_->Shows("epoch 6/6"));
  End(v1::SUCCEEDED);
  EXPECT_EQ(program_->Wait(), 0) << program_->err();
  EXPECT_THAT(service_.watched_from(), ElementsAre(1, 5)) << "goes on after the last event";
  for (int epoch = 1; epoch <= 6; ++epoch) {
    EXPECT_EQ(Count(program_->out(), "epoch " + std::to_string(epoch) + "/6"), 1) << epoch;
  }
}

TEST_F(CliTest, ARestartedServiceIsFoundOnItsNewPort) {
  const std::string file = folder_ + "/service.json";
  const auto write = [&] {
    std::ofstream(file) << ServiceFileToJson({service_.address(), "127.0.0.1:1", 1, "0.1.0"});
  };
  write();
  service_.AddEvent(Epoch(0, 1));
  program_ = std::make_unique<ClientProgram>(
      folder_, std::vector<std::string>{"watch", "job-000001", "--service-file", file});
  ASSERT_TRUE(program_->Shows("epoch 1/6"));
  const std::string old_address = service_.address();
  service_.Stop();
  std::filesystem::remove(file);
  ASSERT_TRUE(program_->Shows("lost"));
  service_.ForgetPort();
  service_.Start();
  write();
  End(v1::SUCCEEDED);
  EXPECT_EQ(program_->Wait(), 0) << program_->err();
  EXPECT_NE(service_.address(), old_address);
}

TEST_F(CliTest, AServiceIsReachedOnAUnixSocket) {
  service_.Stop();
  service_.AddSocket(folder_ + "/api.sock");
  service_.Start();
  const std::string address = "unix:" + folder_ + "/api.sock";
  const std::string file = folder_ + "/service.json";
  std::ofstream(file) << ServiceFileToJson({address, "127.0.0.1:1", 1, "0.1.0"});
  for (const auto& [option, value] :
       {std::pair("--address", address), std::pair("--service-file", file)}) {
    ClientProgram client(folder_, {"get", "job-000001", option, value});
    EXPECT_EQ(client.Wait(), 0) << client.err();
    EXPECT_THAT(client.out(), HasSubstr("deblur"));
  }
  ClientProgram lost(folder_, {"get", "job-000001", "--address", address + ".none"});
  EXPECT_EQ(lost.Wait(), 4) << lost.err();
  EXPECT_THAT(lost.err(), HasSubstr("no service answers at " + address + ".none"));
}

TEST_F(CliTest, AServiceThatStaysAwayIsGivenUp) {
  service_.AddEvent(Epoch(0, 1));
  program_ = std::make_unique<ClientProgram>(
      folder_, std::vector<std::string>{"watch", "job-000001", "--wait", "1", "--address",
                                        service_.address()});
  ASSERT_TRUE(program_->Shows("epoch 1/6"));
  service_.Stop();
  EXPECT_EQ(program_->Wait(), 4);
  EXPECT_THAT(program_->err(), HasSubstr("did not come back within 1.0s"));
}

TEST_F(CliTest, CtrlCStopsWatchingAndNotTheJob) {
  service_.AddEvent(Epoch(0, 1));
  program_ = std::make_unique<ClientProgram>(
      folder_, std::vector<std::string>{"watch", "job-000001", "--address", service_.address()});
  ASSERT_TRUE(program_->Shows("epoch 1/6"));
  program_->Signal(SIGINT);
  EXPECT_EQ(program_->Wait(), 130);
  EXPECT_THAT(program_->out(),
              HasSubstr("the job goes on. To watch it again: imageddpo watch job-000001"));
  EXPECT_EQ(service_.cancel_count(), 0);
}

TEST_F(CliTest, GetListAndCancel) {
  Run({"get", "job-000001", "-o", "json"}, 0);
  EXPECT_EQ(nlohmann::json::parse(program_->out())["spec"]["num_epochs"], 6);
  Run({"get", "job-000001", "-o", "yaml"}, 0);
  EXPECT_THAT(program_->out(), HasSubstr("num_epochs: 6\n"));
  Run({"get", "job-000001"}, 0);
  EXPECT_THAT(program_->out(), HasSubstr("name     deblur\n"));
  Run({"get", "job-000077"}, 3);
  EXPECT_EQ(program_->err(), "imageddpo: no job job-000077; see `imageddpo list`\n");
  Run({"watch", "job-000077"}, 3);
  Run({"cancel", "job-000001"}, 0);
  EXPECT_EQ(program_->out(), "job-000001 CANCELLING\n");
  Run({"cancel", "job-000077"}, 3);
  job_.set_state(v1::SUCCEEDED);
  service_.SetJob(job_);
  Run({"cancel", "job-000001"}, 2);
  EXPECT_THAT(program_->err(), HasSubstr("already SUCCEEDED"));
}

TEST_F(CliTest, PauseResumeAndCheckpoint) {
  Run({"pause", "job-000001"}, 0);
  EXPECT_EQ(program_->out(), "job-000001 PAUSING\n");
  EXPECT_FALSE(service_.paused().immediately());
  Run({"pause", "--now", "job-000001"}, 0);
  EXPECT_TRUE(service_.paused().immediately());
  Run({"resume", "job-000001"}, 0);
  EXPECT_EQ(program_->out(), "job-000001 QUEUED\n");
  EXPECT_FALSE(service_.resumed().has_epoch());
  Run({"resume", "job-000001", "--from-epoch", "3"}, 2);
  EXPECT_EQ(program_->err(), "imageddpo: there is no checkpoint of epoch 3\n");
  Run({"resume", "job-000001", "--from-epoch", "-1"}, 2);
  Run({"checkpoint", "job-000001"}, 0);
  EXPECT_THAT(program_->out(), HasSubstr("job-000001 "));
  Run({"checkpoint", "job-000077"}, 3);
}

TEST_F(CliTest, ListReadsAllPages) {
  for (int i = 2; i <= 8; ++i) {
    v1::Job job = job_;
    job.set_id("job-00000" + std::to_string(i));
    service_.SetJob(job);
  }
  Run({"list", "-o", "json"}, 0);
  EXPECT_EQ(nlohmann::json::parse(program_->out())["jobs"].size(), 8U);
  Run({"list", "--limit", "4"}, 0);
  EXPECT_EQ(Count(program_->out(), "job-00"), 4);
  EXPECT_THAT(program_->out(), HasSubstr("There are older ones"));
  Run({"list", "--limit", "0"}, 0);
  EXPECT_EQ(Count(program_->out(), "job-00"), 8);
}

TEST_F(CliTest, NoServiceIsExitCode4AndSaysHowToStartOne) {
  service_.Stop();
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"list"},
                                             {"get", "x"},
                                             {"watch", "x"},
                                             {"cancel", "x"},
                                             {"submit", folder_ + "/deblur.yaml"}}) {
    Run(arguments, 4);
    EXPECT_THAT(program_->err(), HasSubstr("no service answers at " + service_.address()));
    EXPECT_THAT(program_->err(), HasSubstr("deploy/imageddpod-run"));
  }
}

TEST_F(CliTest, TheAddressMayComeFromTheEnvironment) {
  ClientProgram program(folder_, {"get", "job-000001"}, service_.address());
  EXPECT_EQ(program.Wait(), 0) << program.err();
  ClientProgram wrong(folder_, {"get", "job-000001"}, "nonsense");
  EXPECT_EQ(wrong.Wait(), 2);
  EXPECT_THAT(wrong.err(), HasSubstr("$IMAGEDDPO_ADDRESS is `nonsense`"));
}

TEST_F(CliTest, WrongArgumentsAreExitCode2) {
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"sumbit", "x"},
                                             {"submit"},
                                             {"get"},
                                             {"get", "x", "-o", "xml"},
                                             {"list", "--limit", "-1"},
                                             {"list", "--frobnicate"},
                                             {"import-trl", folder_ + "/deblur.yaml"}}) {
    ClientProgram program(folder_, arguments);
    EXPECT_EQ(program.Wait(), 2) << program.out() << program.err();
    EXPECT_NE(program.err(), "");
  }
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"--help"}, {"submit", "--help"}, {"--version"}}) {
    ClientProgram program(folder_, arguments);
    EXPECT_EQ(program.Wait(), 0);
    EXPECT_NE(program.out(), "");
  }
}

TEST_F(CliTest, ArgumentsMayBeAnyBytes) {
  Run({"get", "job\xe9\x1b[2J"}, 3);
  EXPECT_EQ(program_->err(), "imageddpo: no job job\\xE9\\x1B[2J; see `imageddpo list`\n");
  Run({"watch", "job\xe9"}, 3);
  Run({"list", "--frob\xe9\x1b[2J"}, 2);
  EXPECT_THAT(program_->err(), HasSubstr("--frob\\xE9\\x1B[2J"));
  Run({"submit", folder_ + "/deblur.yaml", "--request-id", "\xe9", "--set", "data.prompt=\xe9"}, 2);
  EXPECT_THAT(program_->err(), HasSubstr("`data.prompt=\\xE9` is not UTF-8"));
  Run({"submit", folder_ + "/deblur.yaml", "--request-id", "\xe9"}, 0);
  EXPECT_EQ(service_.submitted().back().request_id(), "\\xE9");
  const std::string file = folder_ + "/-caf\xe9 \n'\".yaml";
  std::filesystem::copy(folder_ + "/deblur.yaml", file);
  Run({"submit", file}, 0);
  EXPECT_EQ(service_.submitted().back().job().name(), "-caf-----");
  std::ofstream(file) << "sed: 1";
  Run({"submit", file}, 2);
  EXPECT_THAT(program_->err(), HasSubstr("/-caf\\xE9 \n'\".yaml:1"));
}

TEST_F(CliTest, WhatTheServiceSendsDoesNotMoveTheCursor) {
  service_.AddEvent(State(v1::RUNNING, "a\x1b[2J\r\nb\u202e"));
  End(v1::FAILED, "\u009b31m gone");
  const std::string text = OnTerminal({"--address", service_.address(), "watch", "job-000001"}, 70);
  EXPECT_THAT(text, HasSubstr("job-000001 RUNNING: a\\x1B[2J\\x0D; b\\xE2\\x80\\xAE\r\n"));
  EXPECT_THAT(text, HasSubstr("imageddpo: \\xC2\\x9B31m gone\r\n"));
}

TEST_F(CliTest, ValidateAndImportNeedNoService) {
  ClientProgram validate(folder_, {"validate", folder_ + "/deblur.yaml"});
  EXPECT_EQ(validate.Wait(), 0) << validate.err();
  EXPECT_THAT(validate.out(), HasSubstr("steps of a sample       10 of 50\n"));
  ClientProgram filled(folder_, {"validate", folder_ + "/deblur.yaml", "-o", "yaml"});
  EXPECT_EQ(filled.Wait(), 0);
  EXPECT_THAT(filled.out(), HasSubstr("seed: 42\n"));
  std::ofstream(folder_ + "/ddpo.yaml") << "sample_batch_size: 3\ntrain_cfg: true\n";
  ClientProgram import(folder_, {"import-trl", folder_ + "/ddpo.yaml", "--processes", "2"});
  EXPECT_EQ(import.Wait(), 0);
  EXPECT_THAT(import.out(), HasSubstr("batch_size: 6\n"));
  EXPECT_THAT(import.err(), HasSubstr("note: train_cfg has no twin"));
}

}  // namespace
}  // namespace imageddpo

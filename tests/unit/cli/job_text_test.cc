#include "deploy/imageddpo/text/job_text.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/config/job_config.h"
#include "deploy/imageddpo/client/contexts.h"
#include "deploy/imageddpo/client/exit_codes.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/client/service_address.h"
#include "tests/testing/judged.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

v1::Job Running() {
  v1::Job job;
  job.set_id("job-000001");
  *job.mutable_spec() = *ParseJobYaml(
      "name: deblur\nseed: 18446744073709551615\nmodel: {path: m}\ndata: {path: d}\n"
      "rewards: [{type: jpeg, measure: compressibility}]\nnum_epochs: 80",
      "job.yaml");
  job.set_state(v1::RUNNING);
  job.mutable_create_time()->set_seconds(1769847330);
  job.mutable_start_time()->set_seconds(1769847331);
  job.set_topology("rollout 1, trainer 1");
  job.set_output_dir("/data/jobs/job-000001");
  v1::JobProgress& progress = *job.mutable_progress();
  progress.set_epoch(12);
  progress.set_num_epochs(80);
  progress.set_samples_seen(1536);
  progress.mutable_newest_epoch()->set_reward_mean(1.5342);
  progress.mutable_newest_epoch()->set_reward_std(0.8123);
  progress.mutable_newest_epoch()->set_images_per_second(38.14);
  progress.set_seconds_left(192);
  progress.set_stage("sampling");
  return job;
}

TEST(JobToJson, HasNumbersAndTheSchemasNames) {
  const nlohmann::json json = nlohmann::json::parse(JobToJson(Running()));
  EXPECT_EQ(json["state"], "RUNNING");
  EXPECT_EQ(json["progress"]["epoch"], 12);
  EXPECT_EQ(json["progress"]["samples_seen"], 1536);
  EXPECT_EQ(json["resume_count"], 0);
  EXPECT_EQ(json["spec"]["seed"], 18446744073709551615ULL);
  EXPECT_EQ(json["spec"]["rewards"][0]["measure"], "compressibility");
  EXPECT_EQ(json["lora_path"], "");
  EXPECT_TRUE(json["progress"]["epoch_samples"].is_number_integer());
}

TEST(JobToJson, IsReadByProtobuf) {
  v1::Job job = Running();
  *job.mutable_spec() = Judged(job.spec()).spec();
  v1::Job again;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(JobToJson(job), &again).ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(job, again));
}

TEST(JobToJson, AListIsOneObject) {
  EXPECT_EQ(nlohmann::json::parse(JobsToJson({Running(), Running()}))["jobs"].size(), 2U);
  EXPECT_EQ(nlohmann::json::parse(JobsToJson({}))["jobs"], nlohmann::json::array());
}

TEST(JobTable, HasALinePerJob) {
  v1::Job queued;
  queued.set_id("job-000002");
  queued.mutable_spec()->set_name("a name \x1b with an escape");
  queued.mutable_spec()->set_num_epochs(3);
  queued.set_state(v1::QUEUED);
  EXPECT_EQ(
      JobTable({queued, Running()}),
      "ID          NAME                        STATE    EPOCH  REWARD  IMAGES/S   LEFT  RESUMED"
      "  CREATED (UTC)\n"
      "job-000002  a name \\x1B with an escape  QUEUED     0/3       -         -      -        0"
      "  -\n"
      "job-000001  deblur                      RUNNING  12/80    1.53      38.1  3m12s        0"
      "  2026-01-31 08:15:30\n");
  EXPECT_THAT(JobTable({}), StartsWith("No jobs yet."));
}

TEST(JobDetails, SaysWhatIsKnown) {
  v1::Job job = Running();
  EXPECT_THAT(JobDetails(job, {}), HasSubstr("epochs       12/80, sampling\n"));
  EXPECT_THAT(JobDetails(job, {}), HasSubstr("reward       1.534 ± 0.812\n"));
  EXPECT_THAT(JobDetails(job, {}), Not(HasSubstr("resumed")));
  EXPECT_THAT(JobDetails(job, {}), Not(HasSubstr("data  ")));
  job.mutable_progress()->set_data_images(1980);
  job.mutable_progress()->set_data_images_listed(2000);
  EXPECT_THAT(JobDetails(job, {}), HasSubstr("data         1980 of 2000 images, 20 skipped\n"));
  job.mutable_progress()->set_data_images_listed(1980);
  EXPECT_THAT(JobDetails(job, {}), HasSubstr("data         1980 images\n"));
  EXPECT_THAT(JobDetails(job, {}), Not(HasSubstr("waits for")));
  job.mutable_progress()->set_waiting_for("reward service 'taste'");
  EXPECT_THAT(JobDetails(job, {}), HasSubstr("waits for    reward service 'taste'\n"));
  EXPECT_THAT(JobDetails(job, {}), Not(HasSubstr("ended")));
  job.set_state(v1::FAILED);
  job.set_state_reason("rank 2: killed by signal 9");
  job.set_resume_count(2);
  job.set_resumed_from_epoch(10);
  job.mutable_end_time()->set_seconds(1769847331 + 192);
  job.add_warnings("something");
  const std::string details = JobDetails(job, {});
  EXPECT_THAT(details, HasSubstr("state        FAILED: rank 2: killed by signal 9\n"));
  EXPECT_THAT(details, HasSubstr("resumed      2×, the last time from epoch 10\n"));
  EXPECT_THAT(details, HasSubstr("after 3m12s\n"));
  EXPECT_THAT(details, HasSubstr("warning      something\n"));
}

TEST(JobDetails, SaysWhetherTheJobLearns) {
  v1::Job job = Running();
  std::vector<v1::JobEvent> events(12);
  for (int i = 0; i < 12; ++i) {
    events[i].mutable_epoch()->set_epoch(i);
    events[i].mutable_epoch()->set_reward_mean(i);
    events[i].mutable_epoch()->set_reward_std(1);
  }
  // Windows of 3 epochs, differences of 1: σ = 1.0484, error 0.856.
  EXPECT_THAT(JobDetails(job, events), HasSubstr("learning?    learning: reward 1 → 10 (means"));
  EXPECT_THAT(JobDetails(job, {}), HasSubstr("learning?    too early: 0 of at least 8 epochs\n"));
  job.mutable_progress()->clear_newest_epoch();
  EXPECT_THAT(JobDetails(job, {}), Not(HasSubstr("learning?")));
}

TEST(JobAsFile, CanBeSubmittedAgain) {
  const auto again = ParseJobYaml(JobAsFile(Running()), "again.yaml");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(Running().spec(), *again));
}

class JobFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "job-file-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }
  std::string folder_;
  const std::string body_ =
      "model: {path: m}\ndata: {path: d}\nrewards: [{type: jpeg, measure: compressibility}]\n";
};

TEST_F(JobFileTest, TakesItsNameFromTheFileAndSettingsFromTheCommandLine) {
  const auto job = LoadJobFile(Write("my job (2).yaml", body_), {"sample.num_steps=7", "seed=3"});
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->submitted().name(), "my-job--2-");
  EXPECT_EQ(job->submitted().sample().num_steps(), 7);
  EXPECT_EQ(job->submitted().seed(), 3U);
  EXPECT_FALSE(job->submitted().has_num_epochs()) << "defaults are the service's";
  EXPECT_EQ(LoadJobFile(Write("a.yaml", body_ + "name: other"), {})->spec().name(), "other");
}

TEST_F(JobFileTest, NamesTheFileInEveryError) {
  const auto refusal = [](const std::string& file, const std::vector<std::string>& settings = {}) {
    const auto job = LoadJobFile(file, settings);
    EXPECT_EQ(ExitCodeOf(job.status()), ExitCode::kUsage) << file;
    return std::string(job.status().message());
  };
  EXPECT_EQ(refusal(folder_ + "/none.yaml"), folder_ + "/none.yaml does not exist");
  EXPECT_THAT(refusal(folder_), HasSubstr("is a folder"));
  const std::string file = Write("a.yaml", body_ + "num_epochs: 0\ntrain: {batch_size: 0}\n");
  EXPECT_EQ(
      refusal(file),
      file +
          " cannot run:\n"
          "  `num_epochs` is 0, which trains nothing and evaluates once; give `eval.path`, or a "
          "number from 1\n"
          "  `train.batch_size` is 0; it must be from 1 to 1048576");
  EXPECT_THAT(refusal(Write("b.yaml", "smaple: {}")),
              HasSubstr("b.yaml:1); did you mean `sample`?"));
  EXPECT_THAT(refusal(Write("c.yaml", body_), {"seeed=1"}),
              HasSubstr("--set: unknown setting `seeed`"));
}

TEST_F(JobFileTest, AddressComesFromWhereItIsSaid) {
  const auto address = [](const AddressOptions& options, const std::string& environment) {
    return ResolveAddress(options, {.address = environment}, "")->address.ToString();
  };
  EXPECT_EQ(address({}, ""), "unix:out/imageddpo/api.sock");
  EXPECT_EQ(address({}, "host:1"), "host:1");
  EXPECT_EQ(address({.address = "a:2"}, "host:1"), "a:2");
  EXPECT_EQ(address({.address = "[::1]:2"}, ""), "[::1]:2");
  EXPECT_EQ(address({.address = "unix:/run/x.sock"}, ""), "unix:/run/x.sock");
  const std::string file =
      Write("service.json",
            R"({"grpc_address": "127.0.0.1:4", "http_address": "x", "version": "1", "pid": 2})");
  EXPECT_EQ(address({.service_file = file}, "host:1"), "127.0.0.1:4");
  const auto code = [](const AddressOptions& options, const std::string& environment) {
    return ExitCodeOf(ResolveAddress(options, {.address = environment}, "").status());
  };
  for (const char* bad : {"a", "a:", ":1", "a:0", "a:65536", "http://a:1", "a b:1", "a:b"}) {
    EXPECT_EQ(code({.address = bad}, ""), ExitCode::kUsage) << bad;
    EXPECT_EQ(code({}, bad), ExitCode::kUsage) << bad;
  }
  EXPECT_EQ(code({.service_file = folder_ + "/none"}, ""), ExitCode::kUnreachable);
  EXPECT_EQ(code({.service_file = Write("x", "{")}, ""), ExitCode::kUsage);
}

TEST_F(JobFileTest, AContextGoesWithItsAddressAlone) {
  const std::string file = folder_ + "/config/contexts.yaml";
  const std::string token = Write("token", "secret\n"), ca = Write("ca.pem", "x");
  ASSERT_TRUE(ReadContexts(file)->entries.empty());
  Contexts contexts;
  contexts.current = "a";
  contexts.entries["a"] = {.address = "gpu1:1", .tls_ca_file = ca, .token_file = token};
  contexts.entries["b"] = {.address = "unix:/b.sock"};
  ASSERT_TRUE(WriteContexts(file, contexts).ok());
  const auto resolve = [&](const AddressOptions& options, const AddressOptions& environment) {
    const auto endpoint = ResolveAddress(options, environment, file);
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
    return endpoint.ok() ? *endpoint : Endpoint{};
  };
  const Endpoint current = resolve({}, {});
  EXPECT_EQ(current.address.ToString(), "gpu1:1");
  EXPECT_EQ(current.tls.ca_file, ca);
  EXPECT_EQ(current.token, "secret");
  EXPECT_EQ(resolve({}, {.token = "mine"}).token, "mine");
  EXPECT_EQ(resolve({.context = "b"}, {}).address.ToString(), "unix:/b.sock");
  EXPECT_EQ(resolve({}, {.context = "b"}).token, "");
  EXPECT_EQ(resolve({.context = "a"}, {.address = "x:1"}).address.ToString(), "gpu1:1");
  const Endpoint elsewhere = resolve({.address = "gpu2:1"}, {});
  EXPECT_EQ(elsewhere.token, "");
  EXPECT_TRUE(elsewhere.tls.empty());

  const auto refusal = [&](const AddressOptions& options) {
    return std::string(ResolveAddress(options, {}, file).status().message());
  };
  EXPECT_THAT(refusal({.context = "c"}), HasSubstr("no context `c`; there are a, b"));
  EXPECT_THAT(refusal({.address = "gpu2:1", .token_file = token}), HasSubstr("unencrypted"));
  EXPECT_THAT(refusal({.address = "localhost:1", .token_file = folder_ + "/none"}),
              HasSubstr("none"));
  Write("config/contexts.yaml", "contexts: [");
  EXPECT_THAT(refusal({}), HasSubstr("is no file of contexts"));
}

TEST(JobToJson, ShowsNoControlCharacters) {
  v1::Job job = Running();
  job.set_state_reason("\u009b31m\u202e\x7f\x1b[2J");
  const std::string json = JobToJson(job);
  EXPECT_THAT(json, HasSubstr("\\u009b31m\\u202e\\u007f\\u001b[2J"));
  EXPECT_EQ(nlohmann::json::parse(json)["state_reason"], job.state_reason());
}

}  // namespace
}  // namespace imageddpo

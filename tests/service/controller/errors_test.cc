// What programs read from an error of the API: reason, metadata and every fault of a request.

#include "absl/strings/str_cat.h"
#include "common/base/rejection.h"
#include "deploy/imageddpo/client/grpc_details.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/service/controller/service_fixture.h"
#include "trainer/controller/streams/grpc_status.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

/// As the client of the command line reads it.
Rejection Read(const grpc::Status& status) {
  return RejectionOf(WithDetailsOf(
      status, absl::Status(static_cast<absl::StatusCode>(status.error_code()), "refused")));
}

std::vector<std::string> Fields(const Rejection& rejection) {
  std::vector<std::string> fields;
  for (const FieldViolation& violation : rejection.violations) fields.push_back(violation.field);
  return fields;
}

class ErrorsTest : public ServiceTest {
 protected:
  void SetUp() override { Start(); }
};

TEST_F(ErrorsTest, AllFaultsOfAJobComeAtOnce) {
  v1::JobSpec job = JobOf(1);
  job.mutable_model()->set_precision("fp23");
  job.set_max_stage_seconds(-1);
  job.mutable_data()->set_path("no/such/folder");
  v1::Job made;
  const grpc::Status status = Submit(job, &made);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(details.message(), status.error_message());  // Some clients refuse anything else.
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details_size() == 2 && details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.domain(), "imageddpo");
  EXPECT_EQ(details.details(1).type_url(), "type.googleapis.com/google.rpc.BadRequest");
  const Rejection rejection = Read(status);
  EXPECT_EQ(rejection.reason, "INVALID_SETTINGS");
  EXPECT_THAT(Fields(rejection),
              UnorderedElementsAre("model.precision", "max_stage_seconds", "data.path"));
  EXPECT_THAT(rejection.violations[0].description, HasSubstr("did you mean"));
}

TEST_F(ErrorsTest, EachRefusalHasAReason) {
  grpc::ClientContext get_context, list_context, resume_context;
  v1::GetJobRequest get;
  get.set_id("job-000099");
  v1::Job job;
  Rejection rejection = Read(stub().GetJob(&get_context, get, &job));
  EXPECT_EQ(rejection.reason, "JOB_NOT_FOUND");
  EXPECT_EQ(rejection.metadata.at("job"), "job-000099");

  v1::ListJobsRequest list;
  list.set_page_size(-1);
  v1::ListJobsResponse jobs;
  rejection = Read(stub().ListJobs(&list_context, list, &jobs));
  EXPECT_EQ(rejection.reason, "INVALID_FIELD");
  EXPECT_THAT(Fields(rejection), UnorderedElementsAre("page_size"));

  const v1::Job done = WaitFor(MustSubmit(JobOf(1)).id(), v1::SUCCEEDED);
  v1::ResumeJobRequest resume;
  resume.set_id(done.id());
  rejection = Read(stub().ResumeJob(&resume_context, resume, &job));
  EXPECT_EQ(rejection.reason, "JOB_STATE");
  EXPECT_EQ(rejection.metadata.at("state"), "SUCCEEDED");
  EXPECT_EQ(rejection.metadata.at("possible"), "branch, delete, update");

  v1::JobSpec outside = JobOf(1);
  outside.mutable_data()->set_path("/etc");
  rejection = Read(Submit(outside, &job));
  EXPECT_EQ(rejection.reason, "PATH_NOT_ALLOWED");
  EXPECT_THAT(Fields(rejection), UnorderedElementsAre("data.path"));
}

TEST_F(ErrorsTest, AStreamsErrorHasThemToo) {
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_id("job-000099");
  const auto reader = stub().WatchJob(&context, request);
  v1::JobEvent event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(Read(reader->Finish()).reason, "JOB_NOT_FOUND");
}

TEST_F(ErrorsTest, MoreFaultsThanFitStillArrive) {
  v1::JobSpec job = JobOf(1);
  for (int i = 0; i < 200; ++i) job.add_rewards()->set_type(absl::StrCat("né", i));
  v1::Job made;
  const grpc::Status status = Submit(job, &made);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  const Rejection rejection = Read(status);
  EXPECT_GE(rejection.violations.size(), 5u);
  EXPECT_LT(rejection.violations.size(), 200u);
  EXPECT_THAT(status.error_message(), HasSubstr("rewards[1]"));
}

TEST(ToGrpcStatus, WhatClientsAcceptAtMost) {
  std::vector<std::string> faults;
  for (int i = 0; i < 1000; ++i) faults.push_back(absl::StrCat("`setting", i, "` is \n\n\n wrong"));
  const grpc::Status status = ToGrpcStatus(InvalidSettings(faults));
  size_t sent = (status.error_details().size() + 2) / 3 * 4;
  for (const char c : status.error_message()) sent += c >= 0x20 && c < 0x7F && c != '%' ? 1 : 3;
  EXPECT_LE(sent, 7200u);
  EXPECT_GE(sent, 5000u);
  const grpc::Status unknown = ToGrpcStatus(WithReason(
      absl::NotFoundError("no"), Reason::kJobNotFound, {{"job", std::string(10'000, 'x')}}));
  EXPECT_LE(unknown.error_details().size(), 500u);
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
}

}  // namespace
}  // namespace imageddpo

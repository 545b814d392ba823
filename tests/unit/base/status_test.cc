#include "common/base/status.h"

#include <cerrno>
#include <memory>
#include <string>

#include "absl/strings/cord.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

absl::Status FailIf(bool fail) {
  return fail ? absl::NotFoundError("model.safetensors") : absl::OkStatus();
}

absl::Status RunSteps(bool fail, bool* reached) {
  IMAGEDDPO_RETURN_IF_ERROR(FailIf(fail));
  *reached = true;
  return absl::OkStatus();
}

TEST(ReturnIfError, ReturnsAnErrorAndGoesOnAfterOk) {
  bool reached = false;
  EXPECT_EQ(RunSteps(true, &reached).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(reached);
  EXPECT_TRUE(RunSteps(false, &reached).ok());
  EXPECT_TRUE(reached);
}

absl::StatusOr<std::unique_ptr<int>> MakePointer(int value) {
  if (value < 0) {
    return absl::OutOfRangeError("negative");
  }
  return std::make_unique<int>(value);
}

absl::StatusOr<int> Sum(int a, int b) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::unique_ptr<int> first, MakePointer(a));
  std::unique_ptr<int> second;
  IMAGEDDPO_ASSIGN_OR_RETURN(second, MakePointer(b));
  return *first + *second;
}

TEST(AssignOrReturn, MovesTheValueOrReturnsTheError) {
  ASSERT_TRUE(Sum(2, 3).ok());
  EXPECT_EQ(*Sum(2, 3), 5);
  EXPECT_EQ(Sum(-1, 3).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Sum(2, -3).status().code(), absl::StatusCode::kOutOfRange);
}

TEST(Annotate, KeepsCodeAndPayloadsAndPutsThePrefixInFront) {
  absl::Status status = absl::DataLossError("truncated");
  status.SetPayload("type", absl::Cord("payload"));
  const absl::Status annotated = Annotate(status, "unet/config.json");
  EXPECT_EQ(annotated.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(annotated.message(), "unet/config.json: truncated");
  ASSERT_TRUE(annotated.GetPayload("type").has_value());
  EXPECT_EQ(*annotated.GetPayload("type"), "payload");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "unused").ok());
}

TEST(Fault, TravelsInsideTheStatus) {
  const absl::Status plain = absl::UnavailableError("away");
  EXPECT_FALSE(FaultOf(plain).has_value());
  const absl::Status status = Annotate(WithFault(plain, {Whose::kReward, true}), "job-000001");
  EXPECT_EQ(FaultOf(status), (Fault{Whose::kReward, true}));
  EXPECT_EQ(status.message(), "job-000001: away");
  const absl::Status refined = WithFault(status, {Whose::kService, false});
  EXPECT_EQ(FaultOf(refined), (Fault{Whose::kService, false}));
  EXPECT_FALSE(FaultOf(WithFault(absl::OkStatus(), {Whose::kJob, false})).has_value());
}

TEST(Fault, OfAMachineMayPass) {
  for (const int error : {ENOSPC, EDQUOT, EIO, ESTALE, EROFS, EMFILE}) {
    EXPECT_EQ(FaultOf(ErrnoStatus(error, "x")), (Fault{Whose::kHost, true})) << error;
  }
  for (const int error : {ENOENT, EACCES, ENOTDIR, EINVAL}) {
    EXPECT_FALSE(FaultOf(ErrnoStatus(error, "x")).has_value()) << error;
  }
  EXPECT_TRUE(absl::IsResourceExhausted(ErrnoStatus(ENOSPC, "x")));
}

TEST(PausesJob, IsAMarkThatTheWayUpKeeps) {
  EXPECT_EQ(PausesJobFor(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(PausesJobFor(absl::UnavailableError("x")), std::nullopt);
  const absl::Status by_itself = PausesJob(absl::FailedPreconditionError("away"), "the service");
  EXPECT_EQ(by_itself.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(PausesJobFor(Annotate(by_itself, "reward 'taste'")), "the service");
  EXPECT_EQ(PausesJobFor(PausesJob(absl::OutOfRangeError("too many"), "")), "");
  EXPECT_EQ(RollsBackTo(RollsBack(absl::OutOfRangeError("collapsed"), 12)), 12);
  EXPECT_EQ(RollsBackTo(absl::OutOfRangeError("collapsed")), std::nullopt);
}

}  // namespace
}  // namespace imageddpo

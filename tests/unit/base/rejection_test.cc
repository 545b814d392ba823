#include "common/base/rejection.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(Rejection, TravelsInsideAStatus) {
  const Rejection rejection{.reason = "JOB_STATE",
                            .metadata = {{"job", "job-000001"}, {"empty", ""}, {"odd", "1:a\n2:"}},
                            .violations = {{"sample.num_steps", "is 0; give more"}, {"", ""}}};
  absl::Status status = WithRejection(absl::NotFoundError("gone"), rejection);
  EXPECT_EQ(RejectionOf(status), rejection);
  EXPECT_EQ(RejectionOf(Annotate(status, "job-000001")), rejection);
  EXPECT_EQ(status.message(), "gone");
  status = WithFault(status, {.whose = Whose::kHost});  // Beside each other.
  EXPECT_EQ(RejectionOf(status), rejection);
  EXPECT_TRUE(WithRejection(absl::OkStatus(), rejection).ok());
}

TEST(Rejection, WithoutAReasonItsCodeIsTheReason) {
  const Rejection rejection = RejectionOf(absl::NotFoundError("gone"));
  EXPECT_EQ(rejection.reason, "NOT_FOUND");
  EXPECT_THAT(rejection.metadata, IsEmpty());
  EXPECT_THAT(rejection.violations, IsEmpty());
}

TEST(Rejection, AReasonKeepsTheViolations) {
  const absl::Status status =
      WithReason(InvalidField("page_size", "is -1"), Reason::kQuotaExceeded, {{"owner", "alice"}});
  EXPECT_EQ(RejectionOf(status).reason, "QUOTA_EXCEEDED");
  EXPECT_THAT(RejectionOf(status).metadata, ElementsAre(Pair("owner", "alice")));
  EXPECT_THAT(RejectionOf(status).violations,
              ElementsAre(FieldViolation{"page_size", "`page_size` is -1"}));
}

TEST(InvalidSettings, EachFaultIsAViolationOfTheSettingThatItNames) {
  EXPECT_TRUE(InvalidSettings({}).ok());
  const absl::Status status = InvalidSettings(
      {"`sample.num_steps` is 0; it must be a whole number from 1 to 10000",
       "unknown setting `sed` (job.yaml:1); did you mean `seed`?",
       "`rewards[0].type: ssim` compares windows", "`data`: '/x' is no folder", "no name"});
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  std::vector<std::string> fields;
  for (const FieldViolation& violation : RejectionOf(status).violations) {
    fields.push_back(violation.field);
    EXPECT_THAT(std::string(status.message()), HasSubstr(violation.description));
  }
  EXPECT_THAT(fields, ElementsAre("sample.num_steps", "sed", "rewards[0].type", "data", ""));
  EXPECT_EQ(RejectionOf(status).reason, "INVALID_SETTINGS");
}

TEST(ReasonNames, AreOnThePageOfTheApi) {
  std::ifstream page(std::filesystem::path(std::getenv("IMAGEDDPO_SOURCE_DIR")) / "docs/api.md");
  const std::string text{std::istreambuf_iterator<char>(page), std::istreambuf_iterator<char>()};
  for (const absl::string_view name : ReasonNames()) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("| `", name, "` |")));
  }
}

}  // namespace
}  // namespace imageddpo

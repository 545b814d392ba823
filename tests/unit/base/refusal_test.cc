#include "common/base/refusal.h"

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

TEST(Refusal, TravelsInsideAStatus) {
  const Refusal refusal{.reason = "JOB_STATE",
                        .metadata = {{"job", "job-000001"}, {"empty", ""}, {"odd", "1:a\n2:"}},
                        .violations = {{"sample.num_steps", "is 0; give more"}, {"", ""}}};
  absl::Status status = WithRefusal(absl::NotFoundError("gone"), refusal);
  EXPECT_EQ(RefusalOf(status), refusal);
  EXPECT_EQ(RefusalOf(Annotate(status, "job-000001")), refusal);
  EXPECT_EQ(status.message(), "gone");
  status = WithFault(status, {.whose = Whose::kHost});  // Beside each other.
  EXPECT_EQ(RefusalOf(status), refusal);
  EXPECT_TRUE(WithRefusal(absl::OkStatus(), refusal).ok());
}

TEST(Refusal, WithoutAReasonItsCodeIsTheReason) {
  const Refusal refusal = RefusalOf(absl::NotFoundError("gone"));
  EXPECT_EQ(refusal.reason, "NOT_FOUND");
  EXPECT_THAT(refusal.metadata, IsEmpty());
  EXPECT_THAT(refusal.violations, IsEmpty());
}

TEST(Refusal, AReasonKeepsTheViolations) {
  const absl::Status status =
      WithReason(InvalidField("page_size", "is -1"), Reason::kQuotaExceeded, {{"owner", "alice"}});
  EXPECT_EQ(RefusalOf(status).reason, "QUOTA_EXCEEDED");
  EXPECT_THAT(RefusalOf(status).metadata, ElementsAre(Pair("owner", "alice")));
  EXPECT_THAT(RefusalOf(status).violations,
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
  for (const FieldViolation& violation : RefusalOf(status).violations) {
    fields.push_back(violation.field);
    EXPECT_THAT(std::string(status.message()), HasSubstr(violation.description));
  }
  EXPECT_THAT(fields, ElementsAre("sample.num_steps", "sed", "rewards[0].type", "data", ""));
  EXPECT_EQ(RefusalOf(status).reason, "INVALID_SETTINGS");
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

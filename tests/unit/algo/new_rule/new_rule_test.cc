// An advantage rule that was added to copies of the sources as CONTRIBUTING.md says (add_rule.py):
// a job file can choose it, and the job's trainer gets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/job_config.h"
#include "tests/testing/judged.h"
#include "trainer/algo/advantage_rule.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(NewAdvantageRule, IsChosenByAJob) {
  const ResolvedJob job = Judged(*ParseJobYaml("advantage: {mode: centred}", "job.yaml"));
  EXPECT_THAT(MakeAdvantageRule(job.advantage())->Advantages({.rewards = {1, 2, 6}}),
              ElementsAre(-2, -1, 3));
}

TEST(NewAdvantageRule, IsAmongTheChoicesOfAnError) {
  v1::JobSpec spec = Runnable(*ParseJobYaml("advantage: {mode: centered}", "job.yaml"));
  EXPECT_THAT(std::string(ResolvedJob::Make(spec).status().message()),
              HasSubstr("did you mean `centred`?"));
}

}  // namespace
}  // namespace imageddpo

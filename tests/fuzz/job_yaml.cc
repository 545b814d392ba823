// Job files: read and judged; one that is good can be written, and is then read as the same job.
#include "common/config/job_config.h"
#include "common/config/resolved_job.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() { return {}; }

void Read(std::string_view input) {
  const auto job = ParseJobYaml(input, "job.yaml");
  if (!job.ok()) return;
  const auto judged = ResolvedJob::Make(*job);
  if (!judged.ok()) return;
  (void)judged->Warnings();
  Require(ResolvedJob::Reopen(judged->spec()).ok(), "a job that was judged is a good one");
  const std::string yaml = JobToYaml(*job);
  const auto again = ParseJobYaml(yaml, "again.yaml");
  Require(again.ok(), "what was written can be read");
  Require(JobToYaml(*again) == yaml, "it is the same job");
}

}  // namespace imageddpo::fuzz

#pragma once

#include <string>

#include "tests/testing/pipeline_case.h"
#include "tests/testing/temp_dir.h"

namespace imageddpo {

/// One of the cases that record_pipeline.py stored, in a folder of its own.
class StoredPipeline {
 public:
  explicit StoredPipeline(const std::string& name) : case_(".", name, work_.path()) {}

  std::string File(const std::string& file) const { return case_.File(file); }
  std::string Output(const std::string& file) const { return case_.Output(file); }
  std::string model_path() const { return case_.model_path(); }
  TraceRolloutOptions Rollout() const { return case_.Rollout(); }
  TraceUpdateOptions Update() const { return case_.Update(); }

 private:
  TempDir work_;
  PipelineCase case_;
};

}  // namespace imageddpo

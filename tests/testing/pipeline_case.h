#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deploy/trace/trace.h"

namespace imageddpo {

/// A case that tests/parity/record_pipeline.py stored: a whole rollout, and mostly an update, of
/// the original implementation with one of the models in tests/data/parity/models.
class PipelineCase {
 public:
  /// Their names. @throws std::runtime_error  `root` has no such data.
  static std::vector<std::string> Names(const std::string& root);

  /// @param root  the tree, or a copy of its tests/data/parity.
  /// @param work  a folder of its own, for the model folder (links) and outputs.
  /// @throws std::runtime_error  there is no such case.
  PipelineCase(const std::string& root, const std::string& name, const std::string& work);

  /// A file of the case: inputs.safetensors, lora.safetensors, trajectory.safetensors, …
  std::string File(const std::string& file) const;
  std::string Output(const std::string& file) const { return work_ + "/" + file; }
  std::string model_path() const { return work_ + "/model"; }
  /// Not where guidance is rescaled: the original's update forgets the rescale.
  bool has_update() const;

  /// The case on one thread, as recorded; outputs go to Output().
  TraceRolloutOptions Rollout() const;
  TraceUpdateOptions Update() const;

 private:
  void Link(const std::string& name, const std::string& target) const;
  TracePolicyOptions Policy() const;

  std::string folder_;
  std::string work_;
  nlohmann::json case_;
};

}  // namespace imageddpo

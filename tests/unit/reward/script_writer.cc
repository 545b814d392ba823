#include "tests/unit/reward/script_writer.h"

#include <torch/csrc/jit/api/module.h>

namespace imageddpo {

void WriteScript(const std::string& path, const std::string& source,
                 const std::map<std::string, std::string>& extra_files, const at::Tensor& weight) {
  torch::jit::Module module("Scorer");
  if (weight.defined()) module.register_parameter("weight", weight, /*is_buffer=*/false);
  module.define(source);
  module.save(path, torch::jit::ExtraFilesMap(extra_files.begin(), extra_files.end()));
}

}  // namespace imageddpo

#include "tests/unit/reward/script_writer.h"

#include <torch/csrc/jit/api/module.h>

namespace imageddpo {

void WriteScript(const std::string& path, const std::string& source,
                 const std::map<std::string, std::string>& extra_files) {
  torch::jit::Module module("Scorer");
  module.define(source);
  module.save(path, torch::jit::ExtraFilesMap(extra_files.begin(), extra_files.end()));
}

}  // namespace imageddpo

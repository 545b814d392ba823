// cluster.yaml.
#include "common/config/cluster_config.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() { return {}; }

void Read(std::string_view input) {
  const MemoryFile file(input);
  auto config = LoadClusterConfig(file.path());
  if (config.ok()) ResolveClusterConfig(&*config).IgnoreError();
}

}  // namespace imageddpo::fuzz

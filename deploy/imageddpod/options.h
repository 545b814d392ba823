#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "common/config/cluster_config.h"

namespace imageddpo {

/// The command line of imageddpod, with cluster.yaml read and resolved.
struct DaemonOptions {
  ClusterConfig cluster;
  bool log_json = false;
  int ranks = 0;                 ///< What the launcher started; 0: not said.
  std::string exit_status_file;  ///< Rank 0 writes its exit code here when it ends by itself.
  std::string pid_file;          ///< Rank 0 writes its process id here.
};

/// @return CANCELLED after --help, INVALID_ARGUMENT or NOT_FOUND for wrong arguments or settings.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(int argc, char** argv);

}  // namespace imageddpo

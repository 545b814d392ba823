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

/// @return the options; or, where there is nothing to run (--help, wrong arguments), nullopt-like: an
/// OK-less status whose code is CANCELLED after --help and INVALID_ARGUMENT otherwise.
absl::StatusOr<DaemonOptions> ParseDaemonOptions(int argc, char** argv);

}  // namespace imageddpo

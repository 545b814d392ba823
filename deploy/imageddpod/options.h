#pragma once

#include <absl/status/status.h>

#include <string>

#include "common/config/cluster_config.h"

namespace imageddpo {

/// The command line of imageddpod, with cluster.yaml read and resolved.
struct DaemonOptions {
  ClusterConfig cluster;
  bool check = false;            ///< Only say what is wrong with arguments and settings.
  int ranks = 0;                 ///< What the launcher started; 0: not said.
  std::string exit_status_file;  ///< Rank 0 writes its exit code here when it ends by itself.
  std::string pid_file;          ///< Rank 0 writes its process id here.
};

/// @param options  The launcher's files are filled in also where another argument or a setting is
/// wrong.
/// @return CANCELLED after --help, INVALID_ARGUMENT or NOT_FOUND for wrong arguments or settings.
absl::Status ParseDaemonOptions(int argc, char** argv, DaemonOptions* options);

}  // namespace imageddpo

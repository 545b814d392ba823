#include "deploy/imageddpod/options.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <sstream>

#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {

absl::StatusOr<DaemonOptions> ParseDaemonOptions(int argc, char** argv) {
  DaemonOptions options;
  std::string config_file, data_dir, log_level;
  int grpc_port = -1, http_port = -1;
  CLI::App app("Every rank of the trainer service; started by deploy/imageddpod-run.",
               "imageddpod");
  app.add_option("--config", config_file, "cluster.yaml; see deploy/cluster.yaml")
      ->type_name("FILE");
  app.add_option("--data-dir", data_dir, "Instead of data_dir in cluster.yaml")->type_name("DIR");
  app.add_option("--grpc-port", grpc_port, "Instead of grpc.port; 0: a free port")
      ->check(CLI::Range(0, 65535));
  app.add_option("--http-port", http_port, "Instead of http.port; 0: a free port")
      ->check(CLI::Range(0, 65535));
  app.add_option("--log-level", log_level, "Instead of log_level");
  app.add_flag("--log-json", options.log_json, "One JSON object per log line");
  app.add_option("--ranks", options.ranks, "How many ranks there must be (from the launcher)");
  app.add_option("--exit-status-file", options.exit_status_file, "For the launcher")
      ->type_name("FILE");
  app.add_option("--pid-file", options.pid_file, "For the launcher")->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream message;  // It repeats the arguments.
    const int code = app.exit(error, std::cout, message);
    std::cerr << Printable(message.str(), /*keep_newlines=*/true);
    if (code == 0) return absl::CancelledError("help was asked for");
    return absl::InvalidArgumentError("wrong arguments; see imageddpod --help");
  }
  if (!config_file.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(options.cluster, LoadClusterConfig(config_file));
  }
  if (!data_dir.empty()) options.cluster.data_dir = data_dir;
  if (grpc_port >= 0) options.cluster.grpc.port = grpc_port;
  if (http_port >= 0) options.cluster.http.port = http_port;
  if (!log_level.empty()) options.cluster.log_level = log_level;
  IMAGEDDPO_RETURN_IF_ERROR(ResolveClusterConfig(&options.cluster));
  return options;
}

}  // namespace imageddpo

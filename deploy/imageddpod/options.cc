#include "deploy/imageddpod/options.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace imageddpo {

absl::Status ParseDaemonOptions(int argc, char** argv, DaemonOptions* options) {
  std::string config_file, data_dir, log_level;
  int grpc_port = -1, http_port = -1;
  bool log_json = false;
  CLI::App app("Every rank of the trainer service; started by deploy/imageddpod-run.",
               "imageddpod");
  // First, so that they are known where another one is wrong.
  app.add_option("--exit-status-file", options->exit_status_file, "For the launcher")
      ->type_name("FILE");
  app.add_option("--pid-file", options->pid_file, "For the launcher")->type_name("FILE");
  app.add_option("--config", config_file, "cluster.yaml; see deploy/cluster.yaml")
      ->type_name("FILE");
  app.add_option("--data-dir", data_dir, "Instead of data_dir in cluster.yaml")->type_name("DIR");
  app.add_option("--grpc-port", grpc_port, "Instead of grpc.port; 0: a free port")
      ->check(CLI::Range(0, 65535));
  app.add_option("--http-port", http_port, "Instead of http.port; 0: a free port")
      ->check(CLI::Range(0, 65535));
  app.add_option("--log-level", log_level, "Instead of log_level");
  app.add_flag("--log-json", log_json, "Instead of log.format: one JSON object per log line");
  app.add_flag("--check", options->check,
               "Say what is wrong with the arguments and cluster.yaml, and end");
  app.add_option("--ranks", options->ranks, "How many ranks there must be (from the launcher)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) {
      return absl::InvalidArgumentError(absl::StrCat(error.what(), "; see imageddpod --help"));
    }
    app.exit(error, std::cout, std::cerr);
    return absl::CancelledError("help was asked for");
  }
  if (!config_file.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(options->cluster, LoadClusterConfig(config_file));
  }
  if (!data_dir.empty()) options->cluster.data_dir = data_dir;
  if (grpc_port >= 0) options->cluster.grpc.port = grpc_port;
  if (http_port >= 0) options->cluster.http.port = http_port;
  if (!log_level.empty()) options->cluster.log_level = log_level;
  if (log_json) options->cluster.log.format = "json";
  IMAGEDDPO_RETURN_IF_ERROR(ResolveClusterConfig(&options->cluster));
  return absl::OkStatus();
}

}  // namespace imageddpo

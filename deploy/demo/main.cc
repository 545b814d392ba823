// imageddpo-demo: the demo's images, and its table, summary.json and picture from the files of a
// finished job.

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <string>

#include "common/base/status.h"
#include "common/io/file.h"
#include "deploy/demo/prepare.h"
#include "deploy/demo/report.h"

namespace imageddpo::demo {
namespace {

absl::Status Report(const JobFiles& files, const std::string& output_dir) {
  IMAGEDDPO_ASSIGN_OR_RETURN(Summary summary, Summarise(files));
  summary.picture = output_dir + "/before-after.png";
  IMAGEDDPO_RETURN_IF_ERROR(WritePicture(files, summary.picture));
  IMAGEDDPO_RETURN_IF_ERROR(
      WriteFileAtomically(output_dir + "/summary.json", SummaryToJson(summary)));
  std::cout << SummaryToTable(summary);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app("What the demo does before and after its job.", "imageddpo-demo");
  app.require_subcommand(1);

  DataOptions options;
  CLI::App& data = *app.add_subcommand(
      "data", "Makes image folders (blurred, held-out, held-out-clean) from Fashion-MNIST.");
  data.add_option("--dataset", options.dataset, "folder with Fashion-MNIST's four .gz files")
      ->capture_default_str();
  data.add_option("--output", options.output, "where the three folders go")->capture_default_str();
  data.add_option("--train-count", options.train_count, "training images")
      ->capture_default_str()
      ->check(CLI::Range(1, 60000));
  data.add_option("--held-out-count", options.held_out_count, "held-out images")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  data.add_option("--sigma", options.sigma_px, "standard deviation of the blur, in pixels")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 10.0));

  JobFiles files;
  std::string output_dir;
  CLI::App& report =
      *app.add_subcommand("report", "Writes the demo's table, summary.json and picture.");
  report.add_option("--job", files.job_json, "what `imageddpo get ID -o json` printed")->required();
  report.add_option("--clean", files.clean_dir, "the held-out images, clean")->required();
  report.add_option("--classifier", files.classifier, "TorchScript file")->required();
  report.add_option("--output", output_dir, "where summary.json and the picture go")->required();

  CLI11_PARSE(app, argc, argv);
  const absl::Status status = data.parsed() ? Prepare(options) : Report(files, output_dir);
  if (status.ok()) return 0;
  std::cerr << "imageddpo-demo: " << status.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace imageddpo::demo

int main(int argc, char** argv) {
  try {
    return imageddpo::demo::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "imageddpo-demo: " << error.what() << std::endl;
    return 1;
  }
}

// imageddpo-demo-report: the demo's table, summary.json and picture from the files of a finished
// job.

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <string>

#include "common/base/status.h"
#include "common/io/file.h"
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
  JobFiles files;
  std::string output_dir;
  CLI::App app("Writes the demo's table, summary.json and picture.", "imageddpo-demo-report");
  app.add_option("--job", files.job_json, "What `imageddpo get ID -o json` printed")->required();
  app.add_option("--clean", files.clean_dir, "The held-out images, clean")->required();
  app.add_option("--classifier", files.classifier, "TorchScript file")->required();
  app.add_option("--output", output_dir, "Where summary.json and the picture go")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Report(files, output_dir);
  if (status.ok()) return 0;
  std::cerr << "imageddpo-demo-report: " << status.message() << std::endl;
  return 1;
}

}  // namespace
}  // namespace imageddpo::demo

int main(int argc, char** argv) {
  try {
    return imageddpo::demo::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "imageddpo-demo-report: " << error.what() << std::endl;
    return 1;
  }
}

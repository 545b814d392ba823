/// imageddpo-demo-data: makes the demo's image folders from Fashion-MNIST.
///
///   <output>/blurred         training images, blurred
///   <output>/held-out        test images, blurred
///   <output>/held-out-clean  the same test images, clean

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "deploy/demo/demo_data.h"

namespace imageddpo::demo {
namespace {

struct Options {
  std::filesystem::path dataset = "/usr/share/datasets/fashion-mnist";
  std::filesystem::path output = "out/demo";
  int train_count = 1000;
  int held_out_count = 2000;
  double sigma_px = 1.6;
};

absl::Status WriteFolders(const Split& split, const std::vector<FolderPlan>& plans) {
  for (const FolderPlan& plan : plans) {
    const absl::StatusOr<bool> written = WriteFolder(split, plan);
    if (!written.ok()) return written.status();
    std::printf("%s: %d images%s\n", plan.path.c_str(), plan.count,
                *written ? "" : ", already there");
  }
  return absl::OkStatus();
}

absl::Status Prepare(const Options& options) {
  const absl::StatusOr<Split> train = ReadSplit(options.dataset, "train");
  if (!train.ok()) return train.status();
  const absl::StatusOr<Split> test = ReadSplit(options.dataset, "test");
  if (!test.ok()) return test.status();
  const FolderPlan blurred{options.output / "blurred", options.sigma_px, options.train_count};
  const FolderPlan held_out{options.output / "held-out", options.sigma_px, options.held_out_count};
  const FolderPlan clean{options.output / "held-out-clean", std::nullopt, options.held_out_count};
  if (absl::Status status = WriteFolders(*train, {blurred}); !status.ok()) return status;
  return WriteFolders(*test, {held_out, clean});
}

}  // namespace
}  // namespace imageddpo::demo

int main(int argc, char** argv) {
  imageddpo::demo::Options options;
  CLI::App app(
      "Makes the demo's image folders (blurred, held-out, held-out-clean) from Fashion-MNIST.",
      "imageddpo-demo-data");
  app.add_option("--dataset", options.dataset, "folder with Fashion-MNIST's four .gz files")
      ->capture_default_str();
  app.add_option("--output", options.output, "where the three folders go")->capture_default_str();
  app.add_option("--train-count", options.train_count, "training images")
      ->capture_default_str()
      ->check(CLI::Range(1, 60000));
  app.add_option("--held-out-count", options.held_out_count, "held-out images")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  app.add_option("--sigma", options.sigma_px, "standard deviation of the blur, in pixels")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 10.0));
  CLI11_PARSE(app, argc, argv);
  try {
    const absl::Status status = imageddpo::demo::Prepare(options);
    if (status.ok()) return 0;
    std::fprintf(stderr, "imageddpo-demo-data: %s\n", std::string(status.message()).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "imageddpo-demo-data: %s\n", error.what());
  }
  return 1;
}

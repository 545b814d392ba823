// jobs_check: whole jobs of the demo's model on one GPU (or a CPU), through the service's own code
// with threads as ranks: in one rank, split, running ahead, continued, out of memory and then once
// more. Equal settings have to give equal bits. Writes its results anew after each case. Ends with
// 0 (all passed), 1 (something is wrong) or 2 (nothing could be checked).

#include <ATen/ops/rand.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/job_config.h"
#include "common/config/resolved_job.h"
#include "common/device/numerics.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "deploy/trace/guard.h"
#include "tests/gpu_check/device.h"
#include "tests/gpu_check/jobs/filled_memory.h"
#include "tests/gpu_check/work_folder.h"
#include "tests/testing/jobs/thread_job.h"

namespace imageddpo {
namespace {

using Json = nlohmann::json;
using Wrong = std::vector<std::string>;

constexpr int kExitPassed = 0, kExitFailed = 1, kExitError = 2;
constexpr Topology kOneRank = {.rollout = 1, .trainer = 1, .colocated = true};
constexpr Topology kTwoRanks = {.rollout = 1, .trainer = 1, .colocated = false};
constexpr int kImages = 4;

struct Options {
  std::string device = "cpu";
  std::string root = ".";
  std::string json_file;
};

class JobsCheck {
 public:
  JobsCheck(const Options& options, at::Device device) : options_(options), device_(device) {
    for (int i = 0; i < kImages; ++i) {
      const at::Tensor image_CHW =
          at::rand({3, 4, 4}).repeat_interleave(8, 1).repeat_interleave(8, 2);
      std::ofstream(absl::StrCat(folder_.path(), "/", i, ".png"), std::ios::binary)
          << *EncodePng(TensorToImage(image_CHW));
    }
  }

  /// @return  kExitPassed or kExitFailed.
  int Run() {
    Case("colocated", [this] {
      Wrong wrong;
      colocated_ = Outcome(Job(), kOneRank, nullptr, &wrong);
      if (colocated_.rows.size() < 2) wrong.push_back("the job has no rows of its epochs");
      return wrong;
    });
    Case("split on one device", [this] { return Same(Job(), kTwoRanks, colocated_); });
    Case("sampling runs ahead", [this] {
      Wrong wrong;
      const v1::JobSpec job = Job("sample: {max_staleness: 1}");
      const JobOutcome alone = Outcome(job, kOneRank, nullptr, &wrong);
      const Wrong more = Same(job, kTwoRanks, alone);
      wrong.insert(wrong.end(), more.begin(), more.end());
      return wrong;
    });
    Case("continued from its middle", [this] { return Continued(); });
    Case("out of memory, then once more", [this] { return OutOfMemory(); });
    Write(/*complete=*/true);
    return failed_ == 0 ? kExitPassed : kExitFailed;
  }

 private:
  v1::JobSpec Job(const std::string& more = "seed: 3") const {
    v1::JobSpec job = *ParseJobYaml(
        "name: gpu-check\n"
        "seed: 3\n"
        "num_epochs: 2\n"
        "rewards: [{type: image_stat, measure: saturation}]\n"
        "sample: {num_steps: 4, noise_strength: 0.5, guidance_scale: 1, batch_size: 4,\n"
        "         num_batches_per_epoch: 1}\n"
        "train: {update: replay, batch_size: 4, learning_rate: 0.001, clip_range: 0.001}\n"
        "advantage: {mode: per_key, buffer_size: 4, min_count: 2}\n"
        "checkpoint: {every_epochs: 1}\n"
        "device: {device_batch_size: 2, num_threads: 1, allow_shared_gpus: true}\n",
        "job.yaml");
    job.MergeFrom(*ParseJobYaml(more, "more.yaml"));
    job.mutable_model()->set_path(options_.root + "/deploy/demo/tiny-sd");
    job.mutable_data()->set_path(folder_.path());
    return ResolvedJob::Make(job).value().spec();
  }

  /// What is not as it has to be is added to `wrong`.
  JobOutcome Outcome(const v1::JobSpec& job, const Topology& topology,
                     const v1::Checkpoint* resume_from, Wrong* wrong) const {
    JobOutcome outcome;
    const absl::Status status = TryOnThreads(job, topology, resume_from, {device_}, &outcome);
    if (!status.ok()) wrong->push_back(status.ToString());
    for (const std::string& warning : outcome.warnings) wrong->push_back("warns: " + warning);
    return outcome;
  }

  Wrong Same(const v1::JobSpec& job, const Topology& topology, const JobOutcome& expected) const {
    Wrong wrong;
    if (!(Outcome(job, topology, nullptr, &wrong) == expected)) {
      wrong.push_back("its rows and checkpoints are not those of one rank");
    }
    return wrong;
  }

  Wrong Continued() const {
    Wrong wrong;
    const auto middle = colocated_.checkpoints.find(1), end = colocated_.checkpoints.find(2);
    if (middle == colocated_.checkpoints.end() || end == colocated_.checkpoints.end()) {
      return {"the job in one rank left no checkpoints"};
    }
    const JobOutcome outcome = Outcome(Job(), kOneRank, &middle->second, &wrong);
    const auto found = outcome.checkpoints.find(2);
    if (found == outcome.checkpoints.end() ||
        found->second.SerializeAsString() != end->second.SerializeAsString()) {
      wrong.push_back("its last checkpoint is not that of the job that was not interrupted");
    }
    return wrong;
  }

  Wrong OutOfMemory() const {
    Wrong wrong;
    absl::Status status;
    {
      const FilledMemory filled(device_);
      JobOutcome outcome;
      status = TryOnThreads(Job(), kOneRank, nullptr, {device_}, &outcome);
    }
    if (!absl::IsResourceExhausted(status)) {
      wrong.push_back("without memory the job ends with " + status.ToString());
    }
    const Wrong after = Same(Job(), kOneRank, colocated_);
    wrong.insert(wrong.end(), after.begin(), after.end());
    return wrong;
  }

  void Case(const std::string& name, const std::function<Wrong()>& run) {
    const auto started = std::chrono::steady_clock::now();
    const Wrong wrong = run();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
    cases_.push_back({{"name", name},
                      {"seconds", seconds.count()},
                      {"passed", wrong.empty()},
                      {"wrong", wrong}});
    if (!wrong.empty()) ++failed_;
    Write(/*complete=*/false);
  }

  void Write(bool complete) const {
    const Json results = {{"device", options_.device},
                          {"passed", static_cast<int>(cases_.size()) - failed_},
                          {"failed", failed_},
                          {"complete", complete},
                          {"cases", cases_}};
    if (options_.json_file.empty()) {
      if (complete) std::cout << results.dump(1) << std::endl;
      return;
    }
    const std::string partial = options_.json_file + ".partial";
    std::ofstream(partial) << results.dump(1) << "\n";
    std::filesystem::rename(partial, options_.json_file);
  }

  const Options& options_;
  const at::Device device_;
  const WorkFolder folder_;
  JobOutcome colocated_;
  Json cases_ = Json::array();
  int failed_ = 0;
};

int Main(int argc, char** argv) {
  PrepareNumerics();
  Options options;
  CLI::App app("Whole jobs on one device of this machine.", "jobs_check");
  app.option_defaults()->always_capture_default();
  app.add_option("--device", options.device, "cpu, or cuda: the first GPU");
  app.add_option("--root", options.root, "Folder with deploy/demo/tiny-sd");
  app.add_option("--json", options.json_file, "A file for the results, written after each case");
  CLI11_PARSE(app, argc, argv);
  const absl::StatusOr<at::Device> device = FindDevice(options.device);
  if (!device.ok()) {
    std::cerr << "jobs_check: " << device.status() << "\n";
    return kExitError;
  }
  return JobsCheck(options, *device).Run();
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  return imageddpo::Guard("jobs_check", imageddpo::kExitError,
                          [&] { return imageddpo::Main(argc, argv); });
}

// gpu_check: our models, scheduler, rollouts and updates on a GPU (or a CPU) against recordings,
// and how fast a whole epoch is. Needs neither MPI nor gRPC. deploy/gpu-check/run.sh calls it.

#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/host.h"
#include "common/base/status.h"
#include "common/comm/mailbox/mailbox_communicator.h"
#include "common/device/numerics.h"
#include "common/kernels/gpu/cuda_launcher.h"
#include "common/kernels/threads.h"
#include "deploy/trace/guard.h"
#include "tests/gpu_check/device.h"
#include "tests/gpu_check/kernels_check.h"
#include "tests/gpu_check/models_check.h"
#include "tests/gpu_check/nccl/nccl_check.h"
#include "tests/gpu_check/pipeline_check.h"
#include "tests/gpu_check/speed.h"

namespace imageddpo {
namespace {

using Json = nlohmann::json;

constexpr int kExitPassed = 0, kExitFailed = 1, kExitError = 2;

struct Options {
  std::string device = "cpu";
  std::string json_file;
  bool tf32 = false;
  bool deterministic = true;
  int threads = 0;
  std::string root = ".";
  std::vector<std::string> cases;  ///< Further folders as in tests/data/parity/models.
  int ranks = 2;
  int64_t times = 2;
  std::string trace_file;
  SpeedOptions speed;
};

struct Outcome {
  Json json;
  int exit_code = kExitPassed;
};

absl::StatusOr<Outcome> Parity(const Options& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const at::Device device, FindDevice(options.device));
  UseNumerics(device, {.deterministic = options.deterministic, .allow_tf32 = options.tf32});
  std::vector<CheckRow> rows;
  const absl::StatusOr<std::shared_ptr<const FusedKernels>> kernels = FusedKernelsOn(device);
  if (!kernels.ok()) {
    rows.push_back({.part = "kernels",
                    .name = "compiled and loaded",
                    .precision = "fp32",
                    .failure = kernels.status().ToString()});
  }
  const auto add = [&rows](const std::vector<CheckRow>& more) {
    rows.insert(rows.end(), more.begin(), more.end());
  };
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const CheckOptions check{.root = options.root, .device = device, .dtype = dtype};
    if (dtype == at::kFloat) add(CheckScheduler(check));
    add(CheckStoredModels(check));
    for (const std::string& folder : options.cases) add(CheckModels(folder, check));
    add(CheckPipelines(check));
    if (!kernels.ok() || *kernels == nullptr) continue;
    add(CheckKernels(**kernels, check));
    add(CheckStoredModels(
        {.root = options.root, .device = device, .dtype = dtype, .fused = *kernels}));
  }
  const int64_t failed = CountFailed(rows);
  Json list = Json::array();
  for (const CheckRow& row : rows) list.push_back(ToJson(row));
  return Outcome{{{"device", options.device},
                  {"tf32", options.tf32},
                  {"passed", static_cast<int64_t>(rows.size()) - failed},
                  {"failed", failed},
                  {"rows", list}},
                 failed == 0 ? kExitPassed : kExitFailed};
}

absl::StatusOr<Outcome> Speed(Options options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(options.speed.device, FindDevice(options.device));
  UseNumerics(options.speed.device,
              {.deterministic = options.deterministic, .allow_tf32 = options.tf32});
  Json json;
  try {
    IMAGEDDPO_ASSIGN_OR_RETURN(const SpeedResult result, MeasureSpeed(options.speed));
    json = ToJson(options.speed, result);
  } catch (const c10::OutOfMemoryError& error) {  // A result, too.
    json = {{"out_of_memory", error.what_without_backtrace()}};
  }
  json["device"] = options.device;
  json["tf32"] = options.tf32;
  json["deterministic"] = options.deterministic;
  return Outcome{json};
}

/// The same epoch several times: whether it has the same bits, here and, by the hashes, elsewhere.
absl::StatusOr<Outcome> Repeat(Options options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(options.speed.device, FindDevice(options.device));
  UseNumerics(options.speed.device,
              {.deterministic = options.deterministic, .allow_tf32 = options.tf32});
  IMAGEDDPO_ASSIGN_OR_RETURN(const RepeatResult result,
                             RepeatEpoch(options.speed, options.times, options.trace_file));
  Json json = ToJson(result);
  json["device"] = options.device;
  json["deterministic"] = options.deterministic;
  return Outcome{json};
}

/// The conformance suite over threads and CPU tensors: what nccl_check runs over NCCL.
absl::StatusOr<Outcome> Transport(const Options& options) {
  CheckedDevices devices{.count = options.ranks, .nccl_version = "none: threads on the CPU"};
  devices.communicator = [](std::shared_ptr<Mailbox> mailbox, int) {
    return std::make_unique<MailboxCommunicator>(std::move(mailbox), at::kCPU);
  };
  const RankChoice choice{.ranks = options.ranks, .note = "no GPU: ranks are threads on the CPU"};
  const std::vector<CaseResult> results = CheckOnThreads(devices, choice.ranks);
  const CheckExitCode code = ExitCodeOf(results);
  return Outcome{Json::parse(CheckSummary(devices, choice, results, code)), code};
}

void AddSpeedOptions(CLI::App& command, SpeedOptions& speed) {
  command.add_option("--model", speed.model, "Folder in diffusers' layout")->required();
  command.add_option("--precision", speed.precision, "fp32 or bf16");
  command.add_option("--update", speed.update, "single_pass or replay");
  command.add_option("--guidance-scale", speed.guidance_scale);
  command.add_option("--resolution", speed.resolution, "Pixels each way");
  command.add_option("--num-steps", speed.num_steps, "Of the full schedule");
  command.add_option("--noise-strength", speed.noise_strength);
  command.add_option("--batch-size", speed.batch_size, "Samples of a micro-batch");
  command.add_option("--samples", speed.samples_per_epoch, "Of an epoch, which has one update");
  command.add_option("--seconds", speed.seconds, "How long epochs are measured");
  command.add_option("--min-epochs", speed.min_epochs);
  command.add_flag("--fused-kernels", speed.fused_kernels, "As device.fused_kernels");
}

int Main(int argc, char** argv) {
  PrepareNumerics();
  Options options;
  CLI::App app("Parity and speed of the models on this machine.", "gpu_check");
  app.require_subcommand(1);
  app.option_defaults()->always_capture_default();
  app.add_option("--device", options.device, "cpu, or cuda: the first GPU");
  app.add_option("--json", options.json_file, "A file for the results, instead of the output");
  app.add_option("--threads", options.threads, "Of a CPU; 0: one for each core");
  app.add_flag("--tf32", options.tf32, "Allow TF32 in float32 products and convolutions");
  app.add_flag("--deterministic,!--nondeterministic", options.deterministic,
               "As device.deterministic; by default it is on");
  CLI::App* parity = app.add_subcommand("parity", "Against the recordings, in fp32 and bf16");
  parity->add_option("--root", options.root, "Folder with tests/data/parity");
  parity->add_option("--case", options.cases, "A further folder with a recorded model");
  CLI::App* speed = app.add_subcommand("speed", "Epochs of sampling and one update");
  AddSpeedOptions(*speed, options.speed);
  CLI::App* repeat = app.add_subcommand("repeat", "The same epoch several times: equal bits?");
  AddSpeedOptions(*repeat, options.speed);
  repeat->add_option("--times", options.times)->check(CLI::PositiveNumber);
  repeat->add_option("--trace", options.trace_file, "Once more, profiled into this file");
  CLI::App* transport = app.add_subcommand("transport", "nccl_check's suite without NCCL");
  transport->add_option("--ranks", options.ranks)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);

  UseThreads(options.threads > 0 ? options.threads : AvailableProcessors());
  const absl::StatusOr<Outcome> outcome = parity->parsed()   ? Parity(options)
                                          : speed->parsed()  ? Speed(options)
                                          : repeat->parsed() ? Repeat(options)
                                                             : Transport(options);
  if (!outcome.ok()) {
    std::cerr << "gpu_check: " << outcome.status() << "\n";
    return kExitError;
  }
  if (options.json_file.empty()) {
    std::cout << outcome->json.dump(1) << std::endl;
  } else {
    std::ofstream(options.json_file) << outcome->json.dump(1) << "\n";
  }
  return outcome->exit_code;
}

}  // namespace
}  // namespace imageddpo

int main(int argc, char** argv) {
  return imageddpo::Guard("gpu_check", imageddpo::kExitError,
                          [&] { return imageddpo::Main(argc, argv); });
}

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "common/io/file.h"
#include "common/plan/choose.h"
#include "common/plan/job_model.h"
#include "common/plan/nominal.h"
#include "common/plan/predict.h"
#include "deploy/imageddpo/client/job_file.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/plan_text.h"
#include "rollout/data/listing/listing.h"

namespace imageddpo {
namespace {

struct PlanOptions {
  std::string file;
  std::vector<std::string> settings;
  int ranks = 1;
  std::vector<std::string> costs;
  double memory_gigabytes = 0;
  double link_latency_us = 0, link_message_us = 0, link_gigabytes_per_second = 0;
  double faster = 1;
  bool scaling = false;
  std::string svg;
  std::string output = "text";
};

absl::StatusOr<Costs> ReadCosts(const std::vector<std::string>& files) {
  if (files.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--costs is not given; ", HowToMeasure()));
  }
  if (files.size() > 2) {
    return absl::InvalidArgumentError(
        "--costs is given more than twice; one measurement, or one before and one after");
  }
  std::vector<Costs> costs;
  for (const std::string& file : files) {
    const absl::StatusOr<std::string> text = ReadFile(file);
    if (!text.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--costs: ", text.status().message(), "; ", HowToMeasure()));
    }
    IMAGEDDPO_ASSIGN_OR_RETURN(Costs read, Costs::FromJson(*text, file));
    costs.push_back(std::move(read));
  }
  return costs.size() == 1 ? costs.front() : MeanCosts(costs.front(), costs.back());
}

/// The images of a job's data; 0 where they are not on this machine.
int64_t CountImages(const v1::DataSpec& data) {
  ListingOptions options;
  options.text_column = data.text_column();
  options.layout = FindChoice(kDataLayouts, data.layout()).value_or(DataLayout::kAuto);
  options.severity = static_cast<int>(data.severity());
  const absl::StatusOr<Listing> listing = ListExamples(PathOf(data.path()), options);
  return listing.ok() ? listing->examples.size() : 0;
}

absl::StatusOr<PlanInputs> ReadInputs(const PlanOptions& options, const ResolvedJob& resolved) {
  const v1::JobSpec& job = resolved.spec();
  PlanInputs inputs;
  IMAGEDDPO_ASSIGN_OR_RETURN(inputs.costs, ReadCosts(options.costs));
  inputs.costs = FasterCosts(inputs.costs, options.faster);
  LinkCosts& link = inputs.costs.link;
  if (options.link_latency_us > 0) link.latency_seconds = options.link_latency_us * 1e-6;
  if (options.link_message_us > 0) link.message_seconds = options.link_message_us * 1e-6;
  if (options.link_gigabytes_per_second > 0) {
    link.bytes_per_second = options.link_gigabytes_per_second * 1e9;
  }
  absl::StatusOr<ModelCount> model = CountJobModel(resolved);
  if (!model.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("`model.path` or `lora.init_from`: ", model.status().message()));
  }
  inputs.model = *std::move(model);
  inputs.num_images = CountImages(job.data());
  inputs.memory_bytes = options.memory_gigabytes * 1e9;
  return inputs;
}

void WarnAboutCosts(const v1::JobSpec& job, const PlanOptions& options, const Costs& costs) {
  if (costs.precision != job.model().precision()) {
    std::cerr << "warning: the costs were measured in " << Printable(costs.precision)
              << ", `model.precision` is " << job.model().precision() << "\n";
  }
  const int64_t threads = job.device().num_threads();
  if (costs.device == "cpu" && threads != 0 && threads != costs.num_threads) {
    std::cerr << "warning: the costs were measured with " << costs.num_threads
              << " threads, `device.num_threads` is " << threads << "\n";
  }
  if (options.ranks > 1 && !costs.link.measured && options.link_gigabytes_per_second <= 0) {
    std::cerr << "note: the link between ranks was not measured; taken as "
              << costs.link.bytes_per_second / 1e9 << " GB/s and "
              << costs.link.latency_seconds * 1e6 << " µs (--link-gbytes, --link-latency-us)\n";
  }
}

absl::StatusOr<std::string> Scaling(const PlanOptions& options, const ResolvedJob& job,
                                    const PlanInputs& inputs) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<Prediction> fixed,
                             PredictScaling(job, options.ranks, /*grow=*/false, inputs));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<Prediction> grown,
                             PredictScaling(job, options.ranks, /*grow=*/true, inputs));
  if (!options.svg.empty()) {
    IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(
        options.svg,
        ScalingSvg(absl::StrCat(job.spec().name(), ": images per second over ranks"),
                   {{"the job as it is", fixed}, {"an epoch that grows with the ranks", grown}})));
  }
  if (options.output == "json") {
    return absl::StrCat("{\"fixed\": ", PlanJson(fixed), ", \"grown\": ", PlanJson(grown), "}\n");
  }
  return absl::StrCat("The job as it is\n\n", ScalingText(fixed),
                      "\nThe job with an epoch and updates that grow with the ranks\n\n",
                      ScalingText(grown));
}

/// What a job with `topology: auto` gets: the service has no measurement, so it may differ from the
/// best of the table.
absl::StatusOr<PlanNotes> NotesOn(const ResolvedJob& job, int num_ranks, const PlanInputs& inputs) {
  PlanNotes notes;
  if (!IsAuto(job.spec().topology()) || !job.trains()) return notes;
  const bool on_gpus = inputs.costs.device.starts_with("cuda");
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const TopologyChoice choice,
      ChooseTopology(job, num_ranks, NominalInputs(inputs.model, on_gpus, inputs.memory_bytes)));
  notes.chosen = choice.topology;
  const auto most = static_cast<int>(std::min<int64_t>(job.plan().gradient_shards, num_ranks));
  const absl::StatusOr<Prediction> named =
      Predict(job, {.rollout = most, .trainer = most, .colocated = true}, inputs);
  if (named.ok() && named->single_pass) notes.single_pass = *named;
  return notes;
}

ExitCode Plan(const PlanOptions& options) {
  const absl::StatusOr<ResolvedJob> job = LoadJobFile(options.file, options.settings);
  if (!job.ok()) return Report(job.status());
  const absl::StatusOr<PlanInputs> inputs = ReadInputs(options, *job);
  if (!inputs.ok()) return Report(inputs.status());
  const absl::StatusOr<std::vector<Prediction>> predictions =
      PredictAll(*job, options.ranks, *inputs);
  if (!predictions.ok()) return Report(predictions.status());
  WarnAboutCosts(job->spec(), options, inputs->costs);
  if (options.scaling) {
    const absl::StatusOr<std::string> text = Scaling(options, *job, *inputs);
    if (!text.ok()) return Report(text.status());
    std::cout << *text;
    return ExitCode::kOk;
  }
  const absl::StatusOr<PlanNotes> notes = NotesOn(*job, options.ranks, *inputs);
  if (!notes.ok()) return Report(notes.status());
  std::cout << (options.output == "json" ? PlanJson(*predictions, *notes)
                                         : PlanText(*predictions, *notes));
  return ExitCode::kOk;
}

}  // namespace

void AddPlanCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand(
      "plan", "Predict memory, seconds per epoch and the best topology, without a service");
  command->add_option("FILE", options->file, "Job file, YAML or JSON; - is standard input")
      ->required();
  command->add_option("--ranks", options->ranks, "Workers that the job may have")
      ->required()
      ->type_name("N");
  command
      ->add_option("--costs", options->costs,
                   "Needed: what `imageddpo-trace costs` wrote; twice: the mean of the two")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command->add_option("--set", options->settings, "Setting on top of the file (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command->add_option("--memory", options->memory_gigabytes, "Of a device; 0: no limit")
      ->type_name("GB")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--link-latency-us", options->link_latency_us, "Instead of the costs file's")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--link-message-us", options->link_message_us, "Instead of the costs file's")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--link-gbytes", options->link_gigabytes_per_second,
                   "GB/s of a rank, each way, instead of the costs file's")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--faster", options->faster,
                   "Devices so many times as fast as the measured one; the link stays")
      ->type_name("X")
      ->check(CLI::PositiveNumber);
  command->add_flag("--scaling", options->scaling, "Show 1 to N ranks instead of one table");
  command->add_option("--svg", options->svg, "With --scaling: a picture of it")->type_name("FILE");
  command->add_option("-o,--output", options->output, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  command->footer(
      "\nExample, after the costs of such a device were measured on one:\n"
      "  imageddpo-trace costs --job my-job.yaml --output costs.json\n"
      "  imageddpo plan my-job.yaml --ranks 8 --costs costs.json");
  command->callback([options, &program] { program.action = [options] { return Plan(*options); }; });
}

}  // namespace imageddpo

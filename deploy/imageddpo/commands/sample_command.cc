#include <array>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/job_config.h"
#include "common/io/file.h"
#include "common/io/image.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/commands/evaluation.h"

namespace imageddpo {
namespace {

constexpr int kPanelGap = 8;  // Pixels between the pictures of a row.

/// An option that is a setting of the job.
struct SampleFlag {
  const char* flag;
  const char* setting;
  const char* type;
  const char* help;
};
constexpr std::array kSampleFlags = std::to_array<SampleFlag>({
    {"--prompt", "data.prompt", "TEXT", "What the pictures should show"},
    {"--negative-prompt", "data.negative_prompt", "TEXT", "What they should not show"},
    {"--noise-strength", "sample.noise_strength", "S", "Share of the schedule that is run, 0 to 1"},
    {"--num-steps", "sample.num_steps", "N", "Steps of the whole schedule"},
    {"--guidance-scale", "sample.guidance_scale", "G", "Classifier-free guidance"},
    {"--seed", "eval.seed", "N", "Seed of the noise"},
});

struct SampleCommandOptions {
  std::string lora;
  std::string model;
  std::vector<std::string> images;
  std::array<std::string, kSampleFlags.size()> values;  ///< Of the flags; empty: not given.
  std::vector<std::string> settings;
  std::string out = "samples";
  bool ema = false;
  bool watch = false;
};

absl::StatusOr<ResolvedJob> ComposeSamples(const SampleCommandOptions& options) {
  v1::JobSpec spec = EvaluationOfModel("sample", AsSetting(options.model));
  spec.mutable_lora()->set_init_from(
      AsSetting(options.ema ? AverageBeside(options.lora) : options.lora));
  for (const std::string& image : options.images) {
    spec.mutable_eval()->add_files(AsSetting(image));
  }
  spec.mutable_eval()->set_num_pictures(static_cast<int64_t>(options.images.size()));
  for (size_t i = 0; i < kSampleFlags.size(); ++i) {
    if (options.values[i].empty()) continue;
    const std::string setting = absl::StrCat(kSampleFlags[i].setting, "=", options.values[i]);
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(ApplyJobSetting(setting, &spec), kSampleFlags[i].flag));
  }
  return Compose(std::move(spec), options.settings);
}

absl::StatusOr<Image> ReadSample(Client& client, const v1::Job& job, size_t index,
                                 const char* which) {
  const std::string name = absl::StrCat("epoch-000000/", index, "-", which, ".png");
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string file, ReadEvalFile(client, job, name));
  return DecodeImage(file, name);
}

/// Input, sample of the model alone and sample with the LoRA of one image, side by side.
absl::StatusOr<Image> SideBySide(Client& client, const v1::Job& with_lora, const v1::Job& base,
                                 size_t index) {
  std::vector<Image> panels;
  for (const auto& [job, which] :
       {std::pair(&base, "input"), std::pair(&base, "output"), std::pair(&with_lora, "output")}) {
    IMAGEDDPO_ASSIGN_OR_RETURN(panels.emplace_back(), ReadSample(client, *job, index, which));
  }
  return Tile({panels}, kPanelGap);
}

/// The names of the images with the extension .png, each one once.
std::vector<std::string> PngNames(const std::vector<std::string>& images) {
  std::vector<std::string> names;
  std::set<std::string> used;
  for (const std::string& image : images) {
    const std::string stem = std::filesystem::path(image).stem().string();
    std::string name = stem;
    for (int use = 2; !used.insert(name).second; ++use) name = absl::StrCat(stem, "-", use);
    names.push_back(absl::StrCat(name, ".png"));
  }
  return names;
}

ExitCode RunSampleCommand(const Program& program, const SampleCommandOptions& options) {
  const absl::StatusOr<ResolvedJob> composed = ComposeSamples(options);
  if (!composed.ok()) return Report(composed.status());
  Client client = program.MakeClient();
  std::vector<Evaluated> done;
  const ExitCode code = RunEvaluations(
      client, {composed->submitted(), WithoutLora(composed->submitted())}, options.watch, &done);
  if (code != ExitCode::kOk) return code;
  if (const absl::Status status = MakeDirectories(options.out); !status.ok()) return Report(status);
  const std::vector<std::string> names = PngNames(options.images);
  for (size_t i = 0; i < names.size(); ++i) {
    const absl::StatusOr<Image> row = SideBySide(client, done.front().job, done.back().job, i);
    if (!row.ok()) return Report(row.status());
    const std::string file = absl::StrCat(options.out, "/", names[i]);
    if (const absl::Status status = WritePng(file, *row); !status.ok()) return Report(status);
    std::cout << Printable(file) << "\n";
  }
  std::cerr << "Each is, from left to right: input, base model, with the LoRA.\n";
  return ExitCode::kOk;
}

}  // namespace

void AddSampleCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<SampleCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "sample", "Pictures of images of yours, before and after: without a LoRA and with it");
  command
      ->add_option("IMAGES", options->images,
                   "Image files, below the folders that the service may read (allowed_roots)")
      ->required();
  command->add_option("--lora", options->lora, "LoRA file, or a folder with one")
      ->type_name("LORA")
      ->required();
  command->add_flag("--ema", options->ema,
                    "The moving average (train.ema_decay) of the same checkpoint");
  command->add_option("--model", options->model, "Model in diffusers' layout")
      ->type_name("DIR")
      ->required();
  for (size_t i = 0; i < kSampleFlags.size(); ++i) {
    command->add_option(kSampleFlags[i].flag, options->values[i], kSampleFlags[i].help)
        ->type_name(kSampleFlags[i].type);
  }
  command
      ->add_option("--set", options->settings,
                   "Any other setting of the job, as data.resolution=512 (repeatable)")
      ->type_name("SETTING=VALUE")
      ->allow_extra_args(false);
  command->add_option("--out", options->out, "Folder for the PNGs; by default samples/")
      ->type_name("DIR");
  command->add_flag("-w,--watch", options->watch, "Show the progress on standard error");
  command->footer(
      "\nExample: imageddpo sample --lora my-lora.safetensors --model models/sd15 --prompt 'a "
      "photo' "
      "--noise-strength 0.5 cat.png");
  command->callback([options, &program] {
    program.action = [options, &program] { return RunSampleCommand(program, *options); };
  });
}

}  // namespace imageddpo

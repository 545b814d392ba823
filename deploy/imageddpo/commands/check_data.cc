#include <unistd.h>

#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/host.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/image_probe.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/data_text.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/screen.h"
#include "rollout/data/listing/check.h"
#include "rollout/data/listing/listing.h"

namespace imageddpo {
namespace {

constexpr std::chrono::milliseconds kTimeBetweenBars{100};

struct CheckDataOptions {
  std::string path;
  std::string text_column = "text";
  std::string layout = "auto";
  int severity = 0;
  std::string resolution;
  int threads = 0;
  std::string output = "text";
};

/// "512" or "768x512"; {0, 0} for none.
absl::StatusOr<std::pair<int, int>> ParseResolution(const std::string& text) {
  if (text.empty()) return std::pair(0, 0);
  const std::vector<std::string> sides = absl::StrSplit(text, 'x');
  int width = 0, height = 0;
  const bool is_size = sides.size() <= 2 && absl::SimpleAtoi(sides.front(), &width) &&
                       absl::SimpleAtoi(sides.back(), &height) && width > 0 && height > 0;
  if (is_size) return std::pair(width, height);
  return absl::InvalidArgumentError(
      absl::StrCat("--resolution is ", text, "; it must be a side as 512, or a size as 768x512"));
}

/// "checking ████▌     120/2000  3 cannot be read".
std::string CheckedText(int64_t done, int64_t total, size_t num_bad) {
  constexpr size_t kBarColumns = 24;
  return absl::StrCat(
      "checking ", ProgressBar(static_cast<double>(done) / static_cast<double>(total), kBarColumns),
      " ", done, "/", total, num_bad > 0 ? absl::StrCat("  ", num_bad, " cannot be read") : "");
}

absl::StatusOr<ExitCode> CheckDataIn(const CheckDataOptions& options,
                                     const std::function<bool()>& is_interrupted) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto size, ParseResolution(options.resolution));
  ListingOptions listing_options;
  listing_options.text_column = options.text_column;
  listing_options.layout = FindChoice(kDataLayouts, options.layout).value_or(DataLayout::kAuto);
  listing_options.severity = options.severity;
  absl::StatusOr<Listing> listing = ListExamples(PathOf(options.path), listing_options);
  // Not "no such job".
  if (absl::IsNotFound(listing.status())) {
    return absl::InvalidArgumentError(listing.status().message());
  }
  if (!listing.ok()) return listing.status();
  const ExampleTable& examples = listing->examples;

  DataSummary summary(size.first, size.second);
  Screen screen(std::cerr, isatty(STDERR_FILENO) == 1);
  int64_t done = 0;
  size_t num_bad = listing->missing.size();
  auto last_bar = std::chrono::steady_clock::now() - kTimeBetweenBars;
  const CheckOptions check{
      .num_threads = options.threads > 0 ? options.threads : AvailableProcessors(),
      .is_stopped = is_interrupted};
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const std::vector<BadExample> bad,
      DecodeAll(examples, check, [&](int64_t i, const Image* image) {
        ++done;
        if (image == nullptr) {
          ++num_bad;
        } else {
          const absl::StatusOr<ImageHeader> header = examples.row(i) >= 0
                                                         ? ImageHeader{.format = "array"}
                                                         : ProbeImage(examples.file_name(i));
          summary.Add(header.ok() ? header->format : "unknown", image->width, image->height);
        }
        const auto now = std::chrono::steady_clock::now();
        if (!screen.is_terminal() || now - last_bar < kTimeBetweenBars) return;
        last_bar = now;
        screen.Status(CheckedText(done, examples.size(), num_bad));
      }));
  screen.Status("");
  std::vector<std::string> faults = listing->missing;
  for (const BadExample& example : bad) faults.emplace_back(example.status.message());
  if (options.output == "json") {
    std::cout << summary.ToJson(*listing, faults);
  } else {
    for (const std::string& warning : listing->warnings) {
      std::cerr << "warning: " << Printable(warning) << "\n";
    }
    for (const std::string& fault : faults) std::cerr << "bad: " << Printable(fault) << "\n";
    std::cout << summary.ToText(*listing, faults);
  }
  return faults.empty() ? ExitCode::kOk : ExitCode::kJobFailed;
}

ExitCode CheckData(const CheckDataOptions& options, const std::function<bool()>& is_interrupted) {
  const absl::StatusOr<ExitCode> code = CheckDataIn(options, is_interrupted);
  return code.ok() ? *code : Report(code.status());
}

}  // namespace

void AddCheckDataCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<CheckDataOptions>();
  CLI::App* command = app.add_subcommand(
      "check-data", "Decode all images of a folder, without a service, and say what it holds");
  command->add_option("FOLDER", options->path, "As data.path: a folder of images, or a .npy")
      ->required();
  command->add_option("--text-column", options->text_column, "As data.text_column");
  command->add_option("--layout", options->layout, "As data.layout")
      ->check(CLI::IsMember(Words(kDataLayouts)));
  command->add_option("--severity", options->severity, "As data.severity; 0: all of a .npy")
      ->check(CLI::Range(0, 5));
  command
      ->add_option("--resolution", options->resolution,
                   "Count the images that will be enlarged or cropped for it")
      ->type_name("SIDE|WxH");
  command->add_option("--threads", options->threads, "Images at a time; 0: all processors")
      ->check(CLI::Range(0, 1024));
  command->add_option("-o,--output", options->output, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  command->footer("\nExample: imageddpo check-data data/images");
  command->callback([options, &program] {
    program.action = [options, &program] { return CheckData(*options, program.is_interrupted); };
  });
}

}  // namespace imageddpo

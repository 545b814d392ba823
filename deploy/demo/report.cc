#include "deploy/demo/report.h"

#include <ATen/ops/stack.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/base/status.h"
#include "common/io/file.h"
#include "common/io/image.h"
#include "rollout/data/dataset.h"
#include "rollout/reward/torchscript_module.h"

namespace imageddpo::demo {
namespace {

using nlohmann::json;

constexpr int64_t kLastEpochs = 10;
constexpr int64_t kBatch = 100;
constexpr int kColumns = 12;
constexpr int kPictureScale = 3;

absl::StatusOr<json> ReadJson(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(path, " is not JSON"));
  return value;
}

absl::StatusOr<std::vector<json>> ReadJsonLines(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::istringstream lines(text);
  std::vector<json> values;
  for (std::string line; std::getline(lines, line);) {
    values.push_back(json::parse(line, nullptr, false));
    if (values.back().is_discarded()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", values.size(), " is not a line of JSON"));
    }
  }
  if (values.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  return values;
}

std::string EvalStem(const std::string& output_dir, int64_t epochs_trained) {
  return absl::StrFormat("%s/eval/epoch-%06d", output_dir, epochs_trained);
}

/// The job's evaluations before the first and after the last epoch, image by image.
struct Evaluations {
  std::string output_dir;
  int64_t num_epochs = 0;
  std::vector<json> base, trained;
};

absl::StatusOr<Evaluations> ReadEvaluations(const JobFiles& files) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const json job, ReadJson(files.job_json));
  Evaluations result;
  result.output_dir = job.at("output_dir").get<std::string>();
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<json> metrics,
                             ReadJsonLines(result.output_dir + "/metrics.jsonl"));
  result.num_epochs = metrics.back().at("epoch").get<int64_t>() + 1;
  IMAGEDDPO_ASSIGN_OR_RETURN(result.base, ReadJsonLines(EvalStem(result.output_dir, 0) + ".jsonl"));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      result.trained, ReadJsonLines(EvalStem(result.output_dir, result.num_epochs) + ".jsonl"));
  if (result.base.size() != result.trained.size()) {
    return absl::InvalidArgumentError("the two evaluations are not over the same images");
  }
  return result;
}

bool IsCorrect(const json& row) { return row.at("classifier.correct").get<double>() == 1; }

double Share(const std::vector<json>& rows, const char* part) {
  double sum = 0;
  for (const json& row : rows) sum += row.at(part).get<double>();
  return sum / static_cast<double>(rows.size());
}

/// Share of a folder's images in which the classifier sees the label.
absl::StatusOr<double> AccuracyOf(const std::string& dir, const std::string& classifier) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const Dataset data, Dataset::Open(dir));
  IMAGEDDPO_ASSIGN_OR_RETURN(TorchScriptModule module,
                             TorchScriptModule::Load(classifier, at::kCPU));
  int64_t correct = 0;
  for (int64_t first = 0; first < data.size(); first += kBatch) {
    std::vector<at::Tensor> images;
    const int64_t last = std::min(first + kBatch, data.size());
    for (int64_t i = first; i < last; ++i) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const Image size, ReadImage(data.at(i).file_name));
      IMAGEDDPO_ASSIGN_OR_RETURN(at::Tensor image, data.LoadImage(i, size.width, size.height));
      images.push_back(std::move(image));
    }
    IMAGEDDPO_ASSIGN_OR_RETURN(const at::Tensor logits, module.Run(at::stack(images)));
    const at::Tensor seen = logits.argmax(1);
    for (int64_t i = first; i < last; ++i) {
      correct += seen[i - first].item<int64_t>() == data.at(i).label.value_or(-1) ? 1 : 0;
    }
  }
  return static_cast<double>(correct) / static_cast<double>(data.size());
}

absl::Status SummariseRewards(const std::string& output_dir, int64_t num_epochs, Summary* summary) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<json> rows,
                             ReadJsonLines(output_dir + "/metrics.jsonl"));
  std::map<int64_t, double> reward_by_epoch;
  for (const json& row : rows) reward_by_epoch[row.at("epoch")] = row.at("reward_mean");
  summary->reward_first = reward_by_epoch.begin()->second;
  const int64_t last = std::min(kLastEpochs, static_cast<int64_t>(reward_by_epoch.size()));
  for (int64_t epoch = num_epochs - last; epoch < num_epochs; ++epoch) {
    summary->reward_last += reward_by_epoch.at(epoch) / static_cast<double>(last);
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<json> timings,
                             ReadJsonLines(output_dir + "/timings.jsonl"));
  std::vector<double> speeds;
  for (const json& row : timings) speeds.push_back(row.at("images_per_second"));
  std::nth_element(speeds.begin(), speeds.begin() + static_cast<int64_t>(speeds.size() / 2),
                   speeds.end());
  summary->images_per_second = speeds[speeds.size() / 2];
  return absl::OkStatus();
}

/// Seconds of "2026-01-31T08:15:30.250Z" since 1970; 0 where it is not such a time.
double ParseTime(const std::string& text) {
  std::tm time = {};
  const char* const rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (rest == nullptr) return 0;
  const double fraction = *rest == '.' ? std::strtod(rest, nullptr) : 0;
  return static_cast<double>(timegm(&time)) + fraction;
}

/// Nearest-neighbour enlargement: the pictures are small and their pixels are the point.
Image Enlarge(const Image& image) {
  Image large{image.width * kPictureScale, image.height * kPictureScale, {}};
  large.rgb.reserve(static_cast<size_t>(large.width) * large.height * 3);
  for (int y = 0; y < large.height; ++y) {
    for (int x = 0; x < large.width; ++x) {
      const auto* pixel =
          &image
               .rgb[(static_cast<size_t>(y / kPictureScale) * image.width + x / kPictureScale) * 3];
      large.rgb.insert(large.rgb.end(), pixel, pixel + 3);
    }
  }
  return large;
}

}  // namespace

absl::StatusOr<Summary> Summarise(const JobFiles& files) {
  try {
    IMAGEDDPO_ASSIGN_OR_RETURN(const json job, ReadJson(files.job_json));
    IMAGEDDPO_ASSIGN_OR_RETURN(const Evaluations evaluations, ReadEvaluations(files));
    Summary summary;
    summary.seed = std::stoll(job.at("spec").at("seed").is_string()
                                  ? job.at("spec").at("seed").get<std::string>()
                                  : job.at("spec").at("seed").dump());
    summary.topology = job.at("topology");
    summary.lora = job.at("lora_path");
    summary.seconds = ParseTime(job.at("end_time")) - ParseTime(job.at("start_time"));
    IMAGEDDPO_RETURN_IF_ERROR(
        SummariseRewards(evaluations.output_dir, evaluations.num_epochs, &summary));
    IMAGEDDPO_ASSIGN_OR_RETURN(summary.clean, AccuracyOf(files.clean_dir, files.classifier));
    summary.corrupted = Share(evaluations.base, "classifier.correct_input");
    summary.base = Share(evaluations.base, "classifier.correct");
    summary.trained = Share(evaluations.trained, "classifier.correct");
    for (size_t i = 0; i < evaluations.base.size(); ++i) {
      const bool before = IsCorrect(evaluations.base[i]), after = IsCorrect(evaluations.trained[i]);
      summary.fixed += !before && after ? 1 : 0;
      summary.broken += before && !after ? 1 : 0;
    }
    return summary;
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("the job's files: ", error.what()));
  }
}

absl::Status WritePicture(const JobFiles& files, const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const Evaluations evaluations, ReadEvaluations(files));
  IMAGEDDPO_ASSIGN_OR_RETURN(const Dataset clean, Dataset::Open(files.clean_dir));
  const std::string base = EvalStem(evaluations.output_dir, 0);
  const std::string trained = EvalStem(evaluations.output_dir, evaluations.num_epochs);
  std::vector<size_t> order;
  for (size_t i = 0; i < evaluations.base.size(); ++i) {
    if (std::filesystem::exists(absl::StrCat(trained, "/", i, "-output.png"))) order.push_back(i);
  }
  std::stable_partition(order.begin(), order.end(), [&](size_t i) {
    return !IsCorrect(evaluations.base[i]) && IsCorrect(evaluations.trained[i]);
  });
  order.resize(std::min<size_t>(order.size(), kColumns));
  std::vector<std::vector<Image>> rows(4);
  for (const size_t i : order) {
    const std::string paths[] = {
        absl::StrCat(base, "/", i, "-input.png"), absl::StrCat(base, "/", i, "-output.png"),
        absl::StrCat(trained, "/", i, "-output.png"), clean.at(static_cast<int64_t>(i)).file_name};
    for (size_t row = 0; row < rows.size(); ++row) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const Image image, ReadImage(paths[row]));
      rows[row].push_back(Enlarge(image));
    }
  }
  return WritePng(path, Tile(rows, 4));
}

std::string SummaryToJson(const Summary& summary) {
  const nlohmann::ordered_json json = {{"seed", summary.seed},
                                       {"topology", summary.topology},
                                       {"reward_first", summary.reward_first},
                                       {"reward_last", summary.reward_last},
                                       {"accuracy",
                                        {{"clean", summary.clean},
                                         {"corrupted", summary.corrupted},
                                         {"base", summary.base},
                                         {"trained", summary.trained}}},
                                       {"fixed", summary.fixed},
                                       {"broken", summary.broken},
                                       {"seconds", summary.seconds},
                                       {"images_per_second", summary.images_per_second},
                                       {"lora", summary.lora},
                                       {"picture", summary.picture}};
  return json.dump(2) + '\n';
}

std::string SummaryToTable(const Summary& s) {
  return absl::StrFormat(
      "\n"
      "  What a classifier sees in the held-out images      top-1\n"
      "  ---------------------------------------------------------\n"
      "  clean                                             %5.1f %%\n"
      "  blurred (what the model is given)                 %5.1f %%\n"
      "  base model, img2img                               %5.1f %%\n"
      "  after reinforcement                               %5.1f %%\n"
      "\n"
      "  What matters: after reinforcement against the blurred input, %+.1f points.\n"
      "  Against the base model, which does not know what to draw: %+.1f points.\n"
      "\n"
      "  Same noise before and after: %d images fixed, %d broken.\n"
      "  Mean reward: %.3f in the first epoch, %.3f over the last ten.\n"
      "  %.1f images/s; the job took %.0f s (seed %d, %s).\n"
      "\n"
      "  LoRA     %s\n"
      "  Picture  %s\n"
      "           rows: blurred, base model, after reinforcement, clean\n",
      100 * s.clean, 100 * s.corrupted, 100 * s.base, 100 * s.trained,
      100 * (s.trained - s.corrupted), 100 * (s.trained - s.base), s.fixed, s.broken,
      s.reward_first, s.reward_last, s.images_per_second, s.seconds, s.seed, s.topology, s.lora,
      s.picture);
}

}  // namespace imageddpo::demo

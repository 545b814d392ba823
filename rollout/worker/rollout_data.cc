// The images of a rollout rank: how it opens them, and whether they can be read.

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/base/text.h"
#include "rollout/worker/inputs.h"
#include "rollout/worker/rollout.h"

namespace imageddpo {
namespace {

constexpr int kLeastScanThreads = 4;  // Heads of files: the time goes into waiting for the disk.
constexpr char kInputs[] = "inputs";  // Of `data` in state.json: InputsOf().
constexpr size_t kPosteriorCacheBytes = size_t{1} << 29;  // 4,096 images of 512x512.

}  // namespace

absl::StatusOr<OpenedSet> Rollout::OpenImages(const Source& source, const RolloutShare& share,
                                              const DataStart& data_start, Images* images) {
  const v1::DataSpec& data = job_.spec().data();
  const auto threads = static_cast<int>(job_.spec().device().num_threads());
  const bool skips = job_.data().on_error == OnDataError::kSkip;
  OpenOptions options{.listing = {.text_column = data.text_column(),
                                  .files = source.files,
                                  .layout = job_.data().layout,
                                  .severity = job_.data().severity},
                      .on_error = job_.data().on_error,
                      .check = {.num_threads = std::max(threads, skips ? 1 : kLeastScanThreads),
                                .is_stopped = data_start.is_stopped},
                      .before = data_start.before,
                      .allow_change = data.allow_change()};
  absl::StatusOr<OpenedSet> set = OpenSet(PathOf(source.path), options);
  if (!set.ok()) return Annotate(set.status(), absl::StrCat("`", source.setting, "`"));
  for (const std::string& warning : set->listing.warnings) {
    data_warnings_.push_back(absl::StrCat("`", source.setting, "`: ", warning));
  }
  images->examples = std::make_unique<Dataset>(
      std::move(set->listing),
      ImageForm{.resize = job_.data().resize, .corrupt = job_.data().corrupt});
  const Dataset& dataset = *images->examples;
  {
    // Stages of their own: how long the one takes says nothing of the other.
    const StageMark::Item item(data_start.stage, images == &data_
                                                     ? "trying out the reward"
                                                     : "trying out the reward on held-out images");
    IMAGEDDPO_RETURN_IF_ERROR(reward_->CheckDataset(dataset, static_cast<int>(size_.width),
                                                    static_cast<int>(size_.height)));
  }
  if (skips) return set;
  std::vector<int64_t> mine;
  for (int64_t i = share.index; i < dataset.size(); i += share.num_ranks) mine.push_back(i);
  images->decoding = std::make_unique<BackgroundDecode>(
      &dataset.examples(), std::move(mine), [&dataset](int64_t i) { return dataset.WasRead(i); });
  return set;
}

absl::Status Rollout::DataStatus() const {
  for (const Images* images : {&data_, &eval_data_}) {
    if (images->decoding) IMAGEDDPO_RETURN_IF_ERROR(images->decoding->status());
  }
  return absl::OkStatus();
}

absl::Status Rollout::OpenEvaluation(const RolloutShare& share, const DataStart& data_start) {
  const v1::EvalSpec& eval = job_.spec().eval();
  if (!HasHeldOutImages(job_.spec())) return absl::OkStatus();
  Source source{.setting = eval.files().empty() ? "eval.path" : "eval.files", .path = eval.path()};
  for (const std::string& file : eval.files()) source.files.push_back(PathOf(file));
  const DataStart start{.is_stopped = data_start.is_stopped, .stage = data_start.stage};
  IMAGEDDPO_RETURN_IF_ERROR(OpenImages(source, share, start, &eval_data_).status());
  const int64_t batch_size = eval.batch_size();
  for (int64_t i = 0; i < num_eval_samples(); ++i) {
    if (i / batch_size % share.num_ranks != share.index) continue;
    eval_data_.to_come.insert(i % num_eval_images());
  }
  eval_data_.posteriors =
      std::make_unique<PosteriorCache>(eval_data_.to_come.size(), kPosteriorCacheBytes);
  return absl::OkStatus();
}

/// Labels that were given to names of classes mean the same in both sets.
absl::Status Rollout::CheckClassNames() const {
  if (!data_.examples || !eval_data_.examples) return absl::OkStatus();
  const std::vector<std::string>& trained = data_.examples->examples().class_names();
  const std::vector<std::string>& held_out = eval_data_.examples->examples().class_names();
  for (size_t label = 0; label < held_out.size(); ++label) {
    const auto same = std::find(trained.begin(), trained.end(), held_out[label]);
    const auto found = static_cast<size_t>(same - trained.begin());
    if (same == trained.end() || held_out[label].empty() || found == label) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the class '", held_out[label], "' has the label ", label, " in `eval.path` and ", found,
        " in `data.path`, because labels count the sorted names of each set; give both the same "
        "classes, or labels that are numbers in a metadata.jsonl"));
  }
  return absl::OkStatus();
}

int64_t Rollout::MostImagesOfAKey() const {
  const StatKey by = job_.advantage().stat_key;
  std::map<std::pair<std::string, std::string>, int64_t> images;  // By id and prompt.
  int64_t most = 0;
  for (int64_t i = 0; i < data_.examples->size(); ++i) {
    const ExampleTable& examples = data_.examples->examples();
    most = std::max(most, ++images[{by == StatKey::kPrompt ? "" : examples.id(i),
                                    by == StatKey::kImage ? "" : PromptOf(examples.text(i))}]);
  }
  return most;
}

absl::Status Rollout::CheckTrainedSteps() const {
  if (job_.objective() == Objective::kSft) return absl::OkStatus();  // Steps are noise levels.
  const StepSettings& steps = job_.steps();
  const double eta = job_.spec().sample().eta();
  const StepRule& rule = *pipeline_->step_rule;
  if (!steps.window || steps.window->stride > 0) return rule.CheckEta(data_.schedule, eta);
  Schedule window = data_.schedule;
  const auto begin = window.timesteps.begin() + steps.window->start;
  window.timesteps = {begin, begin + steps.window->size};
  return Annotate(rule.CheckEta(window, eta),
                  steps.window_is_random ? "`sample.sde_window`" : "`train.step_window`");
}

absl::Status Rollout::SetSize() {
  size_ = job_.data().size;
  const int64_t downscale = pipeline_->vae->config().downscale();
  const int64_t own_side = pipeline_->default_resolution();
  if (!size_.given()) size_ = {own_side, own_side};
  if (!size_.IsMultipleOf(downscale)) {
    return absl::InvalidArgumentError(absl::StrCat("data.resolution is ", size_.width, "x",
                                                   size_.height, "; this model needs multiples of ",
                                                   downscale));
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> Rollout::CheckInputs(const nlohmann::json& before) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto inputs, InputsOf(job_));
  const bool is_known = before.is_object() && before.contains(kInputs);
  const std::string changed =
      ChangedInputs(is_known ? before.at(kInputs) : nlohmann::json(), inputs);
  if (changed.empty()) return nlohmann::json(inputs);
  const std::string change = absl::StrCat(
      "files of the model or of rewards are not what they were when the job's checkpoint was "
      "written: ",
      changed);
  if (!job_.spec().data().allow_change()) {
    return absl::InvalidArgumentError(absl::StrCat(
        change,
        "; restore them, or set `data.allow_change: true` to go on with what is there now"));
  }
  data_warnings_.push_back(absl::StrCat(change, "; the job goes on with what is there now"));
  return nlohmann::json(inputs);
}

absl::Status Rollout::OpenData(const RolloutShare& share, const DataStart& data_start) {
  const Source source{.setting = "data.path", .path = job_.spec().data().path(), .files = {}};
  IMAGEDDPO_ASSIGN_OR_RETURN(const OpenedSet set, OpenImages(source, share, data_start, &data_));
  data_.are_targets = job_.objective() == Objective::kSft;
  if (data_.are_targets) {
    IMAGEDDPO_RETURN_IF_ERROR(
        Annotate(CheckTargets(*data_.examples), "`train.objective: sft` needs target images"));
  }
  data_report_.set_num_images(data_.examples->size());
  data_report_.set_num_listed(set.num_listed);
  data_report_.set_sha256(set.fingerprint.sha256);
  if (share.index == 0) {  // It has read every file that any rank reads.
    nlohmann::json state = set.ToJson();
    IMAGEDDPO_ASSIGN_OR_RETURN(state[kInputs], CheckInputs(data_start.before));
    data_report_.set_state(state.dump());
  }
  for (int64_t i = 0; i < data_.examples->size(); ++i) data_.to_come.insert(i);
  data_.posteriors = std::make_unique<PosteriorCache>(data_.to_come.size(), kPosteriorCacheBytes);
  order_ =
      std::make_unique<ExampleOrder>(job_.spec().seed(), data_.examples->size(), plan_.group_size);
  if (job_.advantage().mode != AdvantageMode::kPerKey || data_.are_targets) return absl::OkStatus();
  std::string warning = job_.WarningOfKeys(data_.examples->size(), MostImagesOfAKey());
  if (!warning.empty()) data_warnings_.push_back(std::move(warning));
  return absl::OkStatus();
}

}  // namespace imageddpo

#include "rollout/reward/service_reward.h"

#include <ATen/ops/stack.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/image.h"
#include "common/io/image_tensor.h"
#include "rollout/reward/pixel_bytes.h"
#include "rollout/reward/remote/remote_options.h"

namespace imageddpo {
namespace {

constexpr int64_t kProbeItems = 2;
constexpr size_t kMaxShownBytes = 200;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();  // Of an item without a value.

const Clock& MachineClock() {
  static const SystemClock clock;
  return clock;
}

/// A batch under way: calls of at most max_batch items each, in order.
class PendingScores final : public PendingReward {
 public:
  PendingScores(std::vector<std::unique_ptr<RemoteCall>> calls, std::vector<bool> finite_B,
                const RewardHost& host)
      : calls_(std::move(calls)), finite_B_(std::move(finite_B)), host_(host) {}

  absl::StatusOr<RewardOutput> Wait(RewardDeadline deadline) override {
    for (; num_added_ < calls_.size(); ++num_added_) {
      IMAGEDDPO_ASSIGN_OR_RETURN(const v1::ScoreResponse answer,
                                 calls_[num_added_]->Wait(deadline, host_.watch));
      Add(answer);
      calls_[num_added_].reset();
    }
    return std::move(output_);
  }

 private:
  void Add(const v1::ScoreResponse& answer) {
    for (const std::string& name : answer.part_names()) output_.parts.try_emplace(name);
    for (const v1::ItemScore& item : answer.items()) {
      const size_t i = output_.values_B.size();
      if (!finite_B_[i]) {
        output_.values_B.emplace_back(absl::OutOfRangeError("the generated image has NaN in it"));
      } else if (item.has_error()) {
        output_.values_B.emplace_back(absl::FailedPreconditionError(item.error().message()));
      } else {
        output_.values_B.emplace_back(item.value());
      }
      for (int p = 0; p < item.parts_size() && output_.values_B.back().ok(); ++p) {
        std::vector<double>& numbers_B = output_.parts[answer.part_names(p)];
        numbers_B.resize(i, kNone);
        numbers_B.push_back(item.parts(p));
      }
    }
    for (auto& [name, numbers_B] : output_.parts) numbers_B.resize(output_.values_B.size(), kNone);
  }

  std::vector<std::unique_ptr<RemoteCall>> calls_;
  std::vector<bool> finite_B_;
  RewardHost host_;
  RewardOutput output_;
  size_t num_added_ = 0;  // Calls whose answers are in the output.
};

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> ServiceReward::Make(const RewardConfig& config,
                                                            const RewardHost& host) {
  IMAGEDDPO_ASSIGN_OR_RETURN(RemoteRewardOptions options, MakeRemoteOptions(config));
  options.on_call = host.on_call;
  const Clock& clock = host.clock != nullptr ? *host.clock : MachineClock();
  auto remote = RemoteReward::Make(std::move(options), clock);
  return std::unique_ptr<Reward>(new ServiceReward(host, config.on_error, std::move(remote)));
}

absl::StatusOr<RemoteBatch> ServiceReward::Convert(const RewardBatch& batch, int64_t first,
                                                   int64_t size,
                                                   std::vector<bool>* finite_B) const {
  const bool is_png = description_.pixels() == v1::PNG;
  RemoteBatch converted;
  v1::ScoreRequest& request = converted.request;
  request.set_pixels(description_.pixels());
  request.set_height(static_cast<int32_t>(batch.generated_BCHW.size(2)));
  request.set_width(static_cast<int32_t>(batch.generated_BCHW.size(3)));
  const auto convert = [&](const at::Tensor& images_BCHW, SharedBytes* pixels, auto* png_files,
                           std::vector<bool>* finite) -> absl::Status {
    const at::Tensor piece_BCHW =
        images_BCHW.narrow(0, first, size).to(at::kCPU, at::kFloat).contiguous();
    if (!is_png) {
      *pixels = PixelBytes(piece_BCHW, description_.pixels(), finite);
      return absl::OkStatus();
    }
    if (finite != nullptr) AreFinite(piece_BCHW, finite);
    for (int64_t i = 0; i < size; ++i) {
      IMAGEDDPO_ASSIGN_OR_RETURN(std::string png,
                                 EncodePng(TensorToImage(piece_BCHW.select(0, i))));
      png_files->Add(std::move(png));
    }
    return absl::OkStatus();
  };
  IMAGEDDPO_RETURN_IF_ERROR(convert(batch.generated_BCHW, &converted.generated,
                                    request.mutable_generated_png(), finite_B));
  if (description_.wants_inputs()) {
    IMAGEDDPO_RETURN_IF_ERROR(
        convert(batch.inputs_BCHW, &converted.inputs, request.mutable_inputs_png(), nullptr));
  }
  if (description_.wants_targets()) {
    IMAGEDDPO_RETURN_IF_ERROR(
        convert(batch.targets_BCHW, &converted.targets, request.mutable_targets_png(), nullptr));
  }
  for (int64_t i = first; i < first + size; ++i) {
    const Example& example = batch.examples[static_cast<size_t>(i)];
    v1::RewardItem& item = *request.add_items();
    item.set_id(example.id);
    if (description_.wants_prompts()) item.set_prompt(batch.prompts[static_cast<size_t>(i)]);
    if (description_.wants_labels() && example.label) item.set_label(*example.label);
    if (description_.wants_metadata()) {
      item.set_metadata_json(example.metadata.is_object() ? example.metadata.dump() : "{}");
    }
  }
  return converted;
}

std::unique_ptr<PendingReward> ServiceReward::Start(std::shared_ptr<const RewardBatch> batch) {
  if (!is_connected_) {  // Without CheckDataset(), as where a reward is only timed.
    return ComputeInWait([this, batch = std::move(batch)]() -> absl::StatusOr<RewardOutput> {
      IMAGEDDPO_RETURN_IF_ERROR(Connect());
      return Start(batch)->Wait(RewardDeadline::max());
    });
  }
  const int64_t most = description_.max_batch() > 0 ? description_.max_batch() : batch->size();
  std::vector<std::unique_ptr<RemoteCall>> calls;
  std::vector<bool> finite_B;
  for (int64_t first = 0; first < batch->size(); first += most) {
    absl::StatusOr<RemoteBatch> piece =
        Convert(*batch, first, std::min(most, batch->size() - first), &finite_B);
    if (!piece.ok()) return ComputeInWait([error = piece.status()] { return error; });
    calls.push_back(remote_->Start(*std::move(piece)));
  }
  return std::make_unique<PendingScores>(std::move(calls), std::move(finite_B), host_);
}

absl::Status ServiceReward::Connect() {
  if (is_connected_) return absl::OkStatus();
  IMAGEDDPO_ASSIGN_OR_RETURN(description_, remote_->Connect(host_.watch));
  is_connected_ = true;
  if (description_.nondeterministic()) {
    host_.warn(absl::StrCat(
        "the reward service '", Excerpt(description_.name(), kMaxShownBytes),
        "' says that it may score the same images differently at another time; then the same job "
        "does not give the same result twice"));
  }
  return absl::OkStatus();
}

absl::Status ServiceReward::CheckDataset(const Dataset& dataset, int width, int height) {
  IMAGEDDPO_RETURN_IF_ERROR(Connect());
  auto probe = std::make_shared<RewardBatch>();
  if (wants().targets) IMAGEDDPO_RETURN_IF_ERROR(CheckTargets(dataset));
  std::vector<at::Tensor> images, targets;
  for (int64_t i = 0; i < std::min(kProbeItems, dataset.size()); ++i) {
    IMAGEDDPO_ASSIGN_OR_RETURN(at::Tensor image_CHW, dataset.LoadImage(i, width, height));
    images.push_back(std::move(image_CHW));
    if (wants().targets) {
      IMAGEDDPO_ASSIGN_OR_RETURN(at::Tensor target_CHW, dataset.LoadTarget(i, width, height));
      targets.push_back(std::move(target_CHW));
    }
    probe->examples.push_back(dataset.at(i));
    probe->prompts.push_back(dataset.at(i).text);
  }
  probe->inputs_BCHW = at::stack(images);
  if (!targets.empty()) probe->targets_BCHW = at::stack(targets);
  probe->generated_BCHW = probe->inputs_BCHW;
  const RewardDeadline never = RewardDeadline::max();
  IMAGEDDPO_ASSIGN_OR_RETURN(const RewardOutput output, Start(probe)->Wait(never));
  // Where single images may fail, one that does not is enough; it also tells the parts' names.
  const bool one_is_enough =
      on_error_ == OnRewardError::kDrop &&
      std::any_of(output.values_B.begin(), output.values_B.end(),
                  [](const absl::StatusOr<double>& value) { return value.ok(); });
  if (one_is_enough) return absl::OkStatus();
  for (size_t i = 0; i < output.values_B.size(); ++i) {
    if (output.values_B[i].ok()) continue;
    return Annotate(
        output.values_B[i].status(),
        absl::StrCat("before the first epoch, for the input image '", probe->examples[i].id, "'"));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

#pragma once

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/resolved_job.h"
#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/pipeline.h"
#include "common/diffusion/policy.h"
#include "common/lora/lora.h"
#include "common/trajectory/record/sample_gradients.h"
#include "common/trajectory/record/trajectory.h"
#include "common/trajectory/schedule/step_schedule.h"
#include "common/worker/stage_mark.h"
#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "rollout/data/dataset.h"
#include "rollout/data/listing/check.h"
#include "rollout/data/listing/open_set.h"
#include "rollout/data/order.h"
#include "rollout/reward/reward.h"
#include "rollout/sampler/sampler.h"
#include "rollout/worker/posterior_cache.h"
#include "rollout/worker/prompts.h"

namespace imageddpo {

/// Which of a job's rollout ranks this is, and how its records travel.
struct RolloutShare {
  int index = 0;
  int num_ranks = 1;
  at::Device records_device = at::kCPU;  ///< Communicator::transfer_device() of the gang.
};

/// A result that lacks only its scores. Calling it, once, waits for them; destroying it abandons
/// the scoring. It must not outlive the Rollout that returned it.
template <typename Result>
using WhenScored = absl::AnyInvocable<absl::StatusOr<Result>() &&>;

/// What a rollout rank has to know about its job's data besides the settings.
struct DataStart {
  /// `data` of the state.json of the checkpoint from which the job goes on; null: there is none.
  nlohmann::json before;
  std::function<bool()> is_stopped;  ///< Asked by any thread; may be empty.
  /// Where to mark that the reward is tried out, so that one that hangs then is noticed; null: no.
  StageMark* stage = nullptr;
};

/// One rollout rank: images and prompts in, scored trajectories out, under the LoRA that is bound
/// to the pipeline's UNet at the time of the call. What a sample is depends on (job seed, epoch,
/// sample index) alone, never on the rank that makes it. Thread-compatible.
class Rollout {
 public:
  /// Opens the data and the held-out data and checks them against the reward and the model.
  /// @param pipeline  with all parts; outlives this. The text encoder and the VAE's encoder are
  ///                  freed as soon as the encodings of all texts and images are kept.
  /// @param reward  scores every sample: MakeJobReward() of the job.
  /// @param reward_timeout  for the scores of one micro-batch.
  /// @return INVALID_ARGUMENT or NOT_FOUND naming files, line, example or setting: all bad images
  /// at once (OpenSet()), and what has changed since the checkpoint.
  static absl::StatusOr<std::unique_ptr<Rollout>> Create(
      const ResolvedJob& job, Pipeline* pipeline, std::unique_ptr<Reward> reward, at::Device device,
      const RolloutShare& share, std::chrono::milliseconds reward_timeout = kRewardTimeout,
      const DataStart& data_start = {});

  /// What data.path was found to hold, nothing where it is not read; without the job's id.
  const v1::DataReport& data_report() const { return data_report_; }
  /// What was found beside the images and not used, and the like. For people.
  const std::vector<std::string>& data_warnings() const { return data_warnings_; }
  /// Images are decoded in the background until each was read once: INVALID_ARGUMENT as soon as
  /// some are found that cannot be. They are not looked for with data.on_error skip, which has
  /// decoded all before.
  absl::Status DataStatus() const;

  /// From now on Sample() also collects the gradient of each sample's log-probabilities, for the
  /// single pass, and leaves it in `gradients`. What is sampled stays the same.
  /// @param lora  bound to the pipeline's UNet; both outlive this.
  void CollectGradients(const Lora* lora, SampleGradients* gradients);

  /// Samples one micro-batch and starts to score it, so that the next can be sampled meanwhile.
  /// Results are to be called in the order of the calls, while the same LoRA is bound: with
  /// advantage.zero_std resample that may sample again.
  /// @param keep_pictures  attach PNGs of its first samples' inputs and outputs.
  /// @param next  the micro-batch of the epoch that is to be sampled next; its images are loaded
  ///              meanwhile. -1: not known.
  /// With train.objective sft nothing is sampled or scored: see TrajectoryBatch::latents.
  /// @return a WhenScored that fails with the first image's error if a reward has no finite value
  ///         for an image, naming reward, image and remedy (if the reward drops it, its value is
  ///         NaN instead), or with the reward's error if that fails as a whole.
  /// @throws what the models throw
  absl::StatusOr<WhenScored<TrajectoryBatch>> Sample(int64_t epoch, int64_t micro_batch,
                                                     int64_t weight_version, bool keep_pictures,
                                                     int64_t next = -1);

  /// On the prompts of the whole data sets, other ranks' samples included.
  std::vector<std::string> PromptWarnings() const;

  int64_t num_eval_images() const;   ///< 0: the job has no held-out data.
  int64_t num_eval_samples() const;  ///< Of all seeds.
  int64_t num_eval_batches() const;

  /// Img2img of one batch of held-out images, as `eval` says. The samples of an evaluation are
  /// counted seed by seed: sample i is of image i mod num_eval_images(), and its noise a function
  /// of eval.seed + i / num_eval_images() and of the image's index alone. The rest as Sample().
  absl::StatusOr<WhenScored<v1::EvalBatch>> Evaluate(int64_t batch, int64_t weight_version);

 private:
  /// A data set with what is kept of its images, and how they are sampled.
  struct Images {
    std::unique_ptr<Dataset> examples;  ///< Null: the job has none.
    std::set<int64_t> to_come;          ///< What this rank may be asked for.
    std::unique_ptr<PosteriorCache> posteriors;
    std::optional<Policy> policy;
    Schedule schedule;
    std::unique_ptr<BackgroundDecode> decoding;  ///< Null: nothing is decoded in advance.
    bool are_targets = false;  ///< Draw() takes each image's target in place of the image.

    /// Not only the negative one. After SetPolicy().
    bool uses_prompt() const { return policy->options().guidance.scale > 1; }
  };
  /// A batch of inputs, ready for the sampler.
  struct Drawn {
    std::vector<Example> examples;
    std::vector<std::string> prompts;
    PromptCache::Encoded encoded;
    at::Tensor images_BCHW;   ///< [B,3,H,W] in [0,1].
    at::Tensor targets_BCHW;  ///< As the images, where the reward wants them.
    SamplerInputs inputs;
  };
  struct Scores;  ///< Values and parts of a batch.
  Rollout(const ResolvedJob& job, Pipeline* pipeline, std::unique_ptr<Reward> reward,
          at::Device device, at::Device records_device, std::chrono::milliseconds reward_timeout);
  absl::Status SetPolicy(const v1::SampleSpec& sample, Images* images);
  /// Whether there is something to learn from the steps that are trained. After SetPolicy().
  absl::Status CheckTrainedSteps() const;
  /// The prompts, beside the negative one, that are encoded here or, if asked for, on any rank.
  std::set<std::string> Prompts(bool of_all_ranks) const;
  absl::Status OpenData(const RolloutShare& share, const DataStart& data_start);
  /// InputsOf() the job. INVALID_ARGUMENT: they are not those of `before`, `data` of state.json,
  /// and may not change.
  absl::StatusOr<nlohmann::json> CheckInputs(const nlohmann::json& before);
  absl::Status OpenEvaluation(const RolloutShare& share, const DataStart& data_start);
  /// What is to be opened: a path, or single files.
  struct Source {
    std::string setting;  ///< For messages.
    std::string path;
    std::vector<std::string> files;
  };
  /// Opens the images and starts to decode this rank's share of them.
  absl::StatusOr<OpenedSet> OpenImages(const Source& source, const RolloutShare& share,
                                       const DataStart& data_start, Images* images);
  absl::Status SetSize();
  absl::Status CheckClassNames() const;
  absl::StatusOr<Drawn> Draw(const Images& source, const std::vector<int64_t>& examples,
                             const std::function<StreamKey(StreamPurpose, int64_t)>& key_of);
  /// The sample of an epoch whose noise a sample has. With sample.same_init_noise, what leads to
  /// the first noisy latents is that of its group's first sample: that of the VAE's posterior too,
  /// since latents that differ in it would not be the same.
  int64_t NoiseSample(StreamPurpose purpose, int64_t sample) const;
  /// The key of a noise of an epoch's sample. @param attempt  see StreamKey.
  StreamKey NoiseKey(StreamPurpose purpose, int64_t epoch, int64_t sample, uint32_t attempt) const;
  /// Sets all noise of `count` samples.
  void SetNoise(size_t count, const std::function<StreamKey(StreamPurpose, int64_t)>& key_of,
                SamplerInputs* inputs) const;
  std::vector<int64_t> ExamplesOf(int64_t epoch, int64_t micro_batch);
  void StartLoading(std::vector<int64_t> examples);  ///< Of data_, on another thread.
  std::string PromptOf(std::string_view text) const;
  int64_t MostImagesOfAKey() const;  ///< Of data.path, by advantage.stat_key.
  void ReleaseEncoders();            ///< Those that are needed no more.
  /// For StepRecords::base: the denoiser where the loss or a reward needs the base model's steps.
  Denoiser* BaseIf(bool loss_needs_it) const;
  /// Sample() with train.objective sft: noised target images and what to predict from them.
  absl::StatusOr<TrajectoryBatch> NoiseTargets(int64_t epoch, int64_t micro_batch,
                                               int64_t weight_version, int64_t next);
  /// The inputs of a micro-batch of an epoch. Starts to load those of `next`.
  absl::StatusOr<Drawn> DrawMicroBatch(int64_t epoch, int64_t micro_batch, int64_t next);
  /// What a record says of its samples.
  TrajectoryBatch RecordOf(const Drawn& drawn, int64_t epoch, int64_t micro_batch,
                           int64_t weight_version) const;
  WhenScored<Scores> StartScoring(const Drawn& drawn, const SampledTrajectories& sampled);
  /// Which micro-batch is sampled; see Sample().
  struct MicroBatch {
    int64_t epoch = 0, number = 0, weight_version = 0;
    bool keep_pictures = false;
  };
  /// Samples what was drawn and starts to score it. @param start  of the time that it took.
  absl::StatusOr<WhenScored<TrajectoryBatch>> SampleDrawn(
      const MicroBatch& of, const Drawn& drawn, std::chrono::steady_clock::time_point start);
  /// Waits for the scores, and while a group has equal rewards samples the micro-batch again with
  /// other noise for its samples, at most advantage.max_resamples times. Noise and the composition
  /// of the batch follow from the job's settings, epoch and sample, so the record has the same bits
  /// on every rank. Its part "group.resampled": how often a sample was drawn again.
  absl::StatusOr<TrajectoryBatch> ResampleEqualGroups(const MicroBatch& of, Drawn* drawn,
                                                      WhenScored<TrajectoryBatch> first);

  ResolvedJob job_;
  JobPlan plan_;
  StepSchedule steps_;
  Pipeline* pipeline_;
  at::Device device_;
  at::Device records_device_;  ///< Where latents and means that are sent are left.
  PictureSize size_;           ///< Of images.
  Images data_;                ///< Without examples where nothing is trained.
  Images eval_data_;
  v1::DataReport data_report_;
  std::vector<std::string> data_warnings_;
  std::unique_ptr<ExampleOrder> order_;
  std::unique_ptr<Reward> reward_;
  std::chrono::milliseconds reward_timeout_;
  std::unique_ptr<PromptCache> prompts_;
  const Lora* lora_ = nullptr;  ///< This and the next: of CollectGradients(), else null.
  SampleGradients* gradients_ = nullptr;
  std::future<void> loading_;  ///< Of StartLoading(). Last: its thread uses what is above.
};

}  // namespace imageddpo

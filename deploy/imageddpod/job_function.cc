#include "deploy/imageddpod/job_function.h"

#include <ATen/Parallel.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "common/base/status.h"
#include "common/config/job_plan.h"
#include "common/diffusion/lora.h"
#include "common/diffusion/noise.h"
#include "common/diffusion/pipeline.h"
#include "common/io/safetensors.h"
#include "common/worker/gang_timeouts.h"
#include "rollout/worker/rollout_rank.h"
#include "trainer/loop/trainer_rank.h"

namespace imageddpo {
namespace {

int IndexOf(const google::protobuf::RepeatedField<int32_t>& ranks, int rank) {
  const auto found = std::find(ranks.begin(), ranks.end(), rank);
  return found == ranks.end() ? -1 : static_cast<int>(found - ranks.begin());
}

/// Held-out images are looked at before the first epoch, after the last and every so often between.
bool EvaluationDue(const v1::JobSpec& job, int64_t epochs_trained) {
  if (job.eval().path().empty()) return false;
  const int64_t every = job.eval().every_epochs();
  return epochs_trained == 0 || epochs_trained == job.num_epochs() ||
         (every > 0 && epochs_trained % every == 0);
}

bool CheckpointDue(const v1::JobSpec& job, int64_t epochs_trained) {
  const int64_t every = job.checkpoint().every_epochs();
  return epochs_trained == 1 || epochs_trained == job.num_epochs() ||
         (every > 0 && epochs_trained % every == 0);
}

absl::StatusOr<nlohmann::json> ParseState(const v1::StartJob& start) {
  auto state = nlohmann::json::parse(start.resume_from().state(), nullptr, false);
  if (!state.is_object()) {
    return absl::InvalidArgumentError("the checkpoint's state.json is not a JSON object");
  }
  return state;
}

/// The LoRA to start with: the checkpoint's, the file's (with its own ranks and alphas) or a fresh
/// one.
absl::StatusOr<Lora> MakeLora(const v1::StartJob& start, const Unet& unet, at::Device device) {
  const v1::LoraSpec& spec = start.spec().lora();
  if (start.has_resume_from()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const TensorMap tensors, ParseSafetensors(start.resume_from().lora(),
                                                                         "the checkpoint's LoRA"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const nlohmann::json state, ParseState(start));
    const auto metadata = state.value("lora_metadata", std::map<std::string, std::string>());
    return Lora::FromTensors(tensors, metadata, "the checkpoint's LoRA", unet.linears(), {},
                             device);
  }
  if (!spec.init_from().empty()) return Lora::Load(spec.init_from(), unet.linears(), {}, device);
  const LoraConfig config{
      .rank = spec.rank(),
      .alpha = spec.alpha(),
      .target_modules = {spec.target_modules().begin(), spec.target_modules().end()}};
  uint64_t tensor_number = 0;
  const uint64_t seed = start.spec().seed();
  return Lora::Create(
      unet.linears(), config,
      [&](const std::string&, at::IntArrayRef shape) {
        return KeyedNormal(
            {.seed = seed, .purpose = StreamPurpose::kLoraInit, .sample = tensor_number++}, shape);
      },
      device);
}

/// Everything that one rank holds for a job; the members refer to those before them.
struct Rank {
  JobPlan plan;
  Pipeline pipeline;
  Lora lora;
  std::unique_ptr<Policy> policy;
  std::unique_ptr<Rollout> rollout;
  std::unique_ptr<RolloutRank> rollout_rank;
  std::unique_ptr<ShardExchange> exchange;
  std::unique_ptr<Trainer> trainer;
  std::unique_ptr<TrainerRank> trainer_rank;
};

absl::Status SetUpRollout(JobContext& context, int index, Rank* rank) {
  const v1::JobSpec& job = context.start.spec();
  IMAGEDDPO_ASSIGN_OR_RETURN(rank->rollout,
                             Rollout::Create(job, rank->plan, rank->pipeline, context.device));
  rank->rollout_rank = std::make_unique<RolloutRank>(
      &context, rank->plan, index, rank->rollout.get(), rank->pipeline.unet.get(), &rank->lora);
  return absl::OkStatus();
}

absl::Status SetUpTrainer(JobContext& context, int index, Rank* rank) {
  const v1::JobSpec& job = context.start.spec();
  const auto& trainers = context.start.gang().trainer();
  rank->exchange = std::make_unique<ShardExchange>(
      &context.gang, std::vector<int>(trainers.begin(), trainers.end()), index, kStepTimeout);
  IMAGEDDPO_ASSIGN_OR_RETURN(const Schedule schedule,
                             rank->pipeline.scheduler->MakeSchedule(job.sample().num_steps(),
                                                                    job.sample().noise_strength()));
  rank->policy = std::make_unique<Policy>(
      *rank->pipeline.unet, *rank->pipeline.scheduler,
      PolicyOptions{.num_steps = job.sample().num_steps(),
                    .guidance = {.scale = job.sample().guidance_scale(),
                                 .rescale = job.sample().guidance_rescale()},
                    .eta = job.sample().eta(),
                    .first_timestep = schedule.timesteps.front()});
  rank->trainer =
      std::make_unique<Trainer>(job, rank->plan, *rank->policy, &rank->lora, rank->exchange.get());
  if (context.start.has_resume_from()) {
    const v1::Checkpoint& checkpoint = context.start.resume_from();
    IMAGEDDPO_ASSIGN_OR_RETURN(
        const TensorMap optimizer,
        ParseSafetensors(checkpoint.optimizer(), "the checkpoint's optimizer.safetensors"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const nlohmann::json state, ParseState(context.start));
    IMAGEDDPO_RETURN_IF_ERROR(rank->trainer->Restore(optimizer, state));
  }
  rank->trainer_rank =
      std::make_unique<TrainerRank>(&context, rank->plan, index, rank->trainer.get(), &rank->lora);
  return absl::OkStatus();
}

absl::Status SetUp(JobContext& context, Rank* rank) {
  const v1::JobSpec& job = context.start.spec();
  const v1::GangLayout& gang = context.start.gang();
  const int rollout_index = IndexOf(gang.rollout(), context.gang_rank);
  const int trainer_index = IndexOf(gang.trainer(), context.gang_rank);
  at::set_num_threads(static_cast<int>(job.device().num_threads()));
  IMAGEDDPO_ASSIGN_OR_RETURN(rank->plan, MakeJobPlan(job));
  if (gang.trainer_size() > rank->plan.gradient_shards) {
    return absl::InvalidArgumentError(
        absl::StrCat("topology has ", gang.trainer_size(), " trainer ranks but an update has only ",
                     rank->plan.gradient_shards,
                     " gradient shards; use fewer trainer ranks or a smaller "
                     "device.device_batch_size"));
  }
  const bool samples = rollout_index >= 0;
  IMAGEDDPO_ASSIGN_OR_RETURN(rank->pipeline,
                             Pipeline::Load(job.model().path(), {.device = context.device},
                                            {.vae = samples, .text = samples}));
  IMAGEDDPO_ASSIGN_OR_RETURN(rank->lora,
                             MakeLora(context.start, *rank->pipeline.unet, context.device));
  IMAGEDDPO_ASSIGN_OR_RETURN(const int bound, rank->pipeline.unet->BindLora(rank->lora));
  context.logger->info("loaded {}: {} LoRA modules, {} parameters", job.model().path(), bound,
                       rank->lora.num_parameters());
  if (samples) IMAGEDDPO_RETURN_IF_ERROR(SetUpRollout(context, rollout_index, rank));
  if (trainer_index >= 0) IMAGEDDPO_RETURN_IF_ERROR(SetUpTrainer(context, trainer_index, rank));
  return absl::OkStatus();
}

/// What happens between two versions of the LoRA, on every rank of the gang in this order.
absl::Status PublishAndEvaluate(JobContext& context, Rank& rank, int64_t version) {
  RolloutRank* const rollout = rank.rollout_rank.get();
  TrainerRank* const trainer = rank.trainer_rank.get();
  const bool evaluate = EvaluationDue(context.start.spec(), version);
  if (trainer) trainer->PublishWeights(version);
  if (rollout) IMAGEDDPO_RETURN_IF_ERROR(rollout->TakeWeights(version));
  if (trainer) IMAGEDDPO_RETURN_IF_ERROR(trainer->CheckReceipts(version));
  if (rollout && evaluate) IMAGEDDPO_RETURN_IF_ERROR(rollout->EvaluateShare(version));
  if (trainer && evaluate) IMAGEDDPO_RETURN_IF_ERROR(trainer->CollectEvaluation(version));
  return absl::OkStatus();
}

}  // namespace

absl::Status RunJob(JobContext& context) {
  Rank rank;
  IMAGEDDPO_RETURN_IF_ERROR(SetUp(context, &rank));
  const v1::JobSpec& job = context.start.spec();
  const int64_t first_epoch =
      context.start.has_resume_from() ? context.start.resume_from().epoch() : 0;
  for (int64_t epoch = first_epoch; epoch < job.num_epochs(); ++epoch) {
    if (context.stop.requested()) return absl::CancelledError("the job was asked to stop");
    IMAGEDDPO_RETURN_IF_ERROR(PublishAndEvaluate(context, rank, epoch));
    const bool checkpoint = CheckpointDue(job, epoch + 1);
    if (rank.rollout_rank) {
      IMAGEDDPO_RETURN_IF_ERROR(rank.rollout_rank->SampleShare(epoch, epoch, checkpoint));
      if (!rank.trainer_rank) rank.rollout_rank->Flush();
    }
    if (rank.trainer_rank) {
      IMAGEDDPO_RETURN_IF_ERROR(rank.trainer_rank->TrainEpoch(epoch, epoch));
      if (checkpoint) IMAGEDDPO_RETURN_IF_ERROR(rank.trainer_rank->SendCheckpoint());
    }
    if (rank.rollout_rank && rank.trainer_rank) rank.rollout_rank->Flush();
  }
  if (EvaluationDue(job, job.num_epochs())) {
    IMAGEDDPO_RETURN_IF_ERROR(PublishAndEvaluate(context, rank, job.num_epochs()));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

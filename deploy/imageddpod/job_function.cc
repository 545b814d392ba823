#include "deploy/imageddpod/job_function.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/host.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/resolved_job.h"
#include "common/device/numerics.h"
#include "common/diffusion/keyed_noise.h"
#include "common/diffusion/pipeline.h"
#include "common/io/safetensors.h"
#include "common/kernels/gpu/cuda_launcher.h"
#include "common/kernels/gpu/fused_kernels.h"
#include "common/kernels/threads.h"
#include "common/lora/lora.h"
#include "common/trajectory/schedule/version_schedule.h"
#include "common/worker/gang_timeouts.h"
#include "rollout/reward/make_reward.h"
#include "rollout/worker/rank_reward_host.h"
#include "rollout/worker/rollout_rank.h"
#include "trainer/loop/trainer_rank.h"

namespace imageddpo {
namespace {

int IndexOf(const google::protobuf::RepeatedField<int32_t>& ranks, int rank) {
  const auto found = std::find(ranks.begin(), ranks.end(), rank);
  return found == ranks.end() ? -1 : static_cast<int>(found - ranks.begin());
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
absl::StatusOr<Lora> MakeLora(const v1::StartJob& start, const ResolvedJob& job,
                              const Denoiser& denoiser, at::Device device,
                              std::vector<std::string>* warnings) {
  const v1::LoraSpec& spec = start.spec().lora();
  if (start.has_resume_from()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const TensorMap tensors, ParseSafetensors(start.resume_from().lora(),
                                                                         "the checkpoint's LoRA"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const nlohmann::json state, ParseState(start));
    const auto metadata = state.value("lora_metadata", std::map<std::string, std::string>());
    return Lora::FromTensors(tensors, metadata, "the checkpoint's LoRA", denoiser.linears(),
                             {.device = device});
  }
  if (!spec.init_from().empty()) {
    return Lora::Load(
        PathOf(spec.init_from()), denoiser.linears(),
        {.device = device, .unsupported = job.unsupported_modules(), .warnings = warnings});
  }
  const LoraConfig config{
      .rank = spec.rank(),
      .alpha = spec.alpha(),
      .target_modules = {spec.target_modules().begin(), spec.target_modules().end()}};
  uint64_t tensor_number = 0;
  const uint64_t seed = start.spec().seed();
  return Lora::Create(
      denoiser.linears(), config,
      [&](const std::string&, at::IntArrayRef shape) {
        return KeyedNormal(
            {.seed = seed, .purpose = StreamPurpose::kLoraInit, .sample = tensor_number++}, shape);
      },
      device);
}

absl::StatusOr<ModelOptions> MakeModelOptions(const ResolvedJob& job, at::Device device) {
  ModelOptions options = {.device = device,
                          .dtype = DtypeOf(job.precision()),
                          .recompute = job.spec().device().gradient_checkpointing()};
  if (job.spec().device().fused_kernels()) {
    absl::StatusOr<std::shared_ptr<const FusedKernels>> kernels = FusedKernelsOn(device);
    if (!kernels.ok()) {
      return absl::Status(kernels.status().code(),
                          absl::StrCat("`device.fused_kernels` cannot be used on this rank: ",
                                       kernels.status().message(), "; set it to false"));
    }
    options.fused = *std::move(kernels);
  }
  return options;
}

/// A single pass keeps the gradients of an epoch's samples until their advantages are known.
absl::Status CheckGradientMemory(const JobContext& context, const JobPlan& plan, const Lora& lora) {
  if (!plan.single_pass) return absl::OkStatus();
  constexpr double kMostOfMemory = 0.5;
  constexpr double kGigabyte = 1e9;
  const int64_t samples = plan.MostSamplesOfATrainer(context.start.gang().trainer_size());
  const double bytes = static_cast<double>(samples * lora.num_parameters()) * sizeof(float);
  const auto memory = static_cast<double>(HostMemoryBytes());
  context.logger->info("single pass: {:.3f} GB for the gradients of {} samples", bytes / kGigabyte,
                       samples);
  if (memory <= 0 || bytes <= kMostOfMemory * memory) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "`train.update: single_pass` would keep the gradients of %d samples on a rank, %.1f GB, and "
      "the host has %.1f GB; use `train.update: replay`, more colocated ranks, fewer samples an "
      "epoch or a smaller `lora.rank`",
      samples, bytes / kGigabyte, memory / kGigabyte));
}

/// Everything that one rank holds for a job; the members refer to those before them.
struct Rank {
  ResolvedJob job;
  Pipeline pipeline;
  Lora lora;
  SampleGradients gradients;  ///< Of a single pass; empty in a replay.
  std::unique_ptr<Policy> policy;
  std::unique_ptr<Rollout> rollout;
  std::unique_ptr<RolloutRank> rollout_rank;
  std::unique_ptr<ShardExchange> exchange;
  std::unique_ptr<Trainer> trainer;
  std::unique_ptr<TrainerRank> trainer_rank;
};

/// How long a micro-batch may take to be scored. A reward service has limits of its own.
std::chrono::milliseconds RewardTimeout(const ResolvedJob& job) {
  return job.asks_a_service() ? GangTimeouts::Of(job.spec()).phase
                              : std::chrono::milliseconds(kRewardTimeout);
}

absl::Status SetUpRollout(JobContext& context, int index, Rank* rank) {
  std::unique_ptr<Reward> reward;
  {
    const StageMark::Item item(context.stage, "loading the reward");
    IMAGEDDPO_ASSIGN_OR_RETURN(reward,
                               MakeJobReward(rank->job, context.device, MakeRewardHost(&context)));
  }
  DataStart data{.is_stopped = [&context] { return context.stop.requested(); },
                 .stage = rank->job.asks_a_service() ? nullptr : context.stage};
  if (context.start.has_resume_from()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(nlohmann::json state, ParseState(context.start));
    data.before = std::move(state["data"]);
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(
      rank->rollout, Rollout::Create(rank->job, &rank->pipeline, std::move(reward), context.device,
                                     {.index = index,
                                      .num_ranks = context.start.gang().rollout_size(),
                                      .records_device = context.gang.transfer_device()},
                                     RewardTimeout(rank->job), data));
  if (rank->job.plan().single_pass) {
    rank->rollout->CollectGradients(&rank->lora, &rank->gradients);
  }
  rank->rollout_rank = std::make_unique<RolloutRank>(
      &context, rank->job, index, rank->rollout.get(), rank->pipeline.denoiser.get(), &rank->lora);
  return absl::OkStatus();
}

absl::Status SetUpTrainer(JobContext& context, int index, Rank* rank) {
  const ResolvedJob& job = rank->job;
  const auto& trainers = context.start.gang().trainer();
  rank->exchange = std::make_unique<ShardExchange>(
      &context.gang, std::vector<int>(trainers.begin(), trainers.end()), index, job.reduce(),
      GangTimeouts::Of(job.spec()).phase);
  const v1::SampleSpec& sample = job.spec().sample();
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const Schedule schedule,
      rank->pipeline.step_rule->MakeSchedule(sample.num_steps(), sample.noise_strength()));
  rank->policy = std::make_unique<Policy>(*rank->pipeline.denoiser, *rank->pipeline.step_rule,
                                          MakePolicyOptions(job.spec().sample(), schedule));
  rank->trainer =
      std::make_unique<Trainer>(job, *rank->policy, &rank->lora, MakeAdvantageRule(job.advantage()),
                                MakeLossRule(job), rank->exchange.get(), &rank->gradients);
  if (context.start.has_resume_from()) {
    const v1::Checkpoint& checkpoint = context.start.resume_from();
    IMAGEDDPO_ASSIGN_OR_RETURN(
        const TensorMap optimizer,
        ParseSafetensors(checkpoint.optimizer(), "the checkpoint's optimizer.safetensors"));
    IMAGEDDPO_ASSIGN_OR_RETURN(const nlohmann::json state, ParseState(context.start));
    IMAGEDDPO_RETURN_IF_ERROR(rank->trainer->Restore(optimizer, state));
  }
  EpochWork work;
  if (index == 0 && job.trains()) {  // The leader, who reports on epochs.
    IMAGEDDPO_ASSIGN_OR_RETURN(
        work, MakeEpochWork(job, rank->lora, static_cast<int64_t>(schedule.timesteps.size()),
                            context.start.gang().world_ranks_size(), context.device));
  }
  rank->trainer_rank = std::make_unique<TrainerRank>(&context, job.plan(), index,
                                                     rank->trainer.get(), &rank->lora, work);
  if (!context.start.has_resume_from()) return absl::OkStatus();
  IMAGEDDPO_ASSIGN_OR_RETURN(const nlohmann::json state, ParseState(context.start));
  return rank->trainer_rank->Restore(state);
}

absl::Status SetUp(JobContext& context, Rank* rank) {
  const v1::JobSpec& job = rank->job.spec();
  const v1::GangLayout& gang = context.start.gang();
  const int rollout_index = IndexOf(gang.rollout(), context.gang_rank);
  const int trainer_index = IndexOf(gang.trainer(), context.gang_rank);
  UseThreads(job.device().num_threads());
  UseNumerics(context.device, {.deterministic = job.device().deterministic(),
                               .allow_tf32 = job.device().allow_tf32()});
  if (rank->job.precision() == Precision::kFp16 && context.device.is_cpu()) {
    return absl::InvalidArgumentError(
        "`model.precision: fp16` needs a GPU and this rank has none; use `bf16`");
  }
  const bool samples = rollout_index >= 0;
  std::vector<std::string> warnings;
  std::optional<StageMark::Item> loading;
  loading.emplace(context.stage, "loading");
  IMAGEDDPO_ASSIGN_OR_RETURN(const ModelOptions model, MakeModelOptions(rank->job, context.device));
  IMAGEDDPO_ASSIGN_OR_RETURN(rank->pipeline,
                             Pipeline::Load(PathOf(job.model().path()), model,
                                            {.vae = samples, .text = samples}, &warnings));
  IMAGEDDPO_ASSIGN_OR_RETURN(
      rank->lora,
      MakeLora(context.start, rank->job, *rank->pipeline.denoiser, context.device, &warnings));
  IMAGEDDPO_RETURN_IF_ERROR(CheckGradientMemory(context, rank->job.plan(), rank->lora));
  IMAGEDDPO_ASSIGN_OR_RETURN(const int bound, rank->pipeline.denoiser->BindLora(rank->lora));
  context.logger->info("loaded {}: {} LoRA modules, {} parameters", job.model().path(), bound,
                       rank->lora.num_parameters());
  loading.reset();  // A large set of images takes as long as it takes to be looked through.
  if (samples) IMAGEDDPO_RETURN_IF_ERROR(SetUpRollout(context, rollout_index, rank));
  // The first rollout rank has read every file that any rank reads.
  if (rollout_index == 0) {
    const std::vector<std::string> prompts = rank->rollout->PromptWarnings();
    warnings.insert(warnings.end(), prompts.begin(), prompts.end());
    for (const std::string& warning : warnings) context.Warn(warning);
  }
  if (trainer_index >= 0) IMAGEDDPO_RETURN_IF_ERROR(SetUpTrainer(context, trainer_index, rank));
  return absl::OkStatus();
}

/// One version of the LoRA on one rank: publish it, evaluate and sample with it, train the epoch
/// that starts from it. LoRA version v is the one after v trained epochs.
absl::Status RunVersion(const VersionSchedule& versions, int64_t first_epoch, int64_t version,
                        Rank& rank, SpanLog* spans) {
  using Span = SpanLog::Span;
  RolloutRank* const rollout = rank.rollout_rank.get();
  TrainerRank* const trainer = rank.trainer_rank.get();
  // A trainer that does not sample meets the rollout ranks where it needs their samples: there they
  // have bound the version that drew them, and may be ahead by as many epochs as are allowed.
  const int64_t bound_by_now = rollout ? version : versions.SamplingVersion(version);

  if (trainer) {
    const Span span(spans, "publish");
    trainer->PublishWeights(version);
  }
  const bool rollout_takes_part = rollout && versions.IsPublished(version);
  if (rollout_takes_part) {
    const Span span(spans, "wait for weights");
    IMAGEDDPO_RETURN_IF_ERROR(rollout->TakeWeights(version));
  }
  if (trainer) {
    const Span span(spans, "wait for receipts");
    IMAGEDDPO_RETURN_IF_ERROR(trainer->CheckReceipts(bound_by_now));
  }
  if (rollout_takes_part && versions.EvaluationDue(version)) {
    const Span span(spans, "evaluate");
    IMAGEDDPO_RETURN_IF_ERROR(rollout->EvaluateShare(version));
  }
  if (trainer) {
    const Span span(spans, "wait for evaluations");
    IMAGEDDPO_RETURN_IF_ERROR(trainer->CollectEvaluations());
  }
  if (rollout) {
    const auto [begin, end] = versions.EpochsOf(version);
    for (int64_t epoch = std::max(begin, first_epoch); epoch < end; ++epoch) {
      const Span span(spans, "rollout");
      IMAGEDDPO_RETURN_IF_ERROR(
          rollout->SampleShare(epoch, version, versions.CheckpointDue(epoch + 1)));
    }
  }
  if (!trainer || version < first_epoch || version >= versions.num_epochs()) {
    return absl::OkStatus();
  }
  IMAGEDDPO_RETURN_IF_ERROR(trainer->TrainEpoch(version));
  const Span span(spans, "send the state");
  return trainer->SendCheckpoint();
}

/// Between two versions, and after the last one.
void TakeTrace(const JobContext& context, bool is_last) {
  if (context.spans == nullptr) return;
  std::optional<SpanLog::Trace> trace = context.spans->NextEpoch(is_last);
  if (!trace) return;
  v1::WorkerMessage message;
  message.mutable_trace()->set_job_id(context.start.job_id());
  message.mutable_trace()->set_folder(std::move(trace->folder));
  message.mutable_trace()->set_json(std::move(trace->json));
  context.report(std::move(message));
}

}  // namespace

absl::Status RunJob(JobContext& context) {
  // Pinned memory belongs to the thread's current device.
  const c10::DeviceGuard device_guard(context.device);
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob job, ResolvedJob::Reopen(context.start.spec()));
  Rank rank{.job = job};
  IMAGEDDPO_RETURN_IF_ERROR(SetUp(context, &rank));
  if (rank.rollout_rank) rank.rollout_rank->ReportData();
  if (rank.trainer_rank) IMAGEDDPO_RETURN_IF_ERROR(rank.trainer_rank->TakeDataReports());
  const VersionSchedule versions(job.spec());
  const int64_t first_epoch =
      context.start.has_resume_from() ? context.start.resume_from().epoch() : 0;
  // With staleness, the next epochs to train are sampled with versions before the checkpoint's.
  for (int64_t version = versions.OldestVersionAt(first_epoch); version <= versions.num_epochs();
       ++version) {
    if (context.stop.requested()) return absl::CancelledError("the job was asked to stop");
    TakeTrace(context, /*is_last=*/false);
    IMAGEDDPO_RETURN_IF_ERROR(RunVersion(versions, first_epoch, version, rank, context.spans));
  }
  if (rank.trainer_rank) {
    IMAGEDDPO_RETURN_IF_ERROR(rank.trainer_rank->CheckReceipts(versions.num_epochs()));
    IMAGEDDPO_RETURN_IF_ERROR(rank.trainer_rank->CollectEvaluations());
  }
  if (rank.rollout_rank) rank.rollout_rank->Flush();
  TakeTrace(context, /*is_last=*/true);
  return absl::OkStatus();
}

}  // namespace imageddpo

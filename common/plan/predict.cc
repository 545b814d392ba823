#include "common/plan/predict.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/plan/choose.h"

namespace imageddpo {
namespace {

constexpr double kHeadBytes = 256;            // Of a record, and for each of its samples.
constexpr double kRecordsInFlight = 4;        // Of a rollout rank, to each trainer.
constexpr double kPosteriorCacheBytes = 5e8;  // Of a rollout rank.
constexpr double kMessagesOfRecord = 3;       // Size, head, latents.

double Ceil(double a, double b) { return std::ceil(a / b); }

/// A job on a topology, in the numbers that the formulas of docs/planning.md are made of.
struct Shape {
  JobPlan plan;
  double steps = 0;          // K
  double trained = 0;        // Of these.
  double random = 0;         // Of these: they draw noise.
  double rows = 0;           // Of the UNet's batch, for a micro-batch.
  double rollout_micro = 0;  // Micro-batches of an epoch, on the busiest rollout rank.
  double trainer_micro = 0;  // Of an update, on the busiest trainer.
  double own_shards = 0;     // Of the busiest trainer.
  double updates = 0;        // Of an epoch, over all inner epochs.
  double kept_share = 0;     // Of the epoch's latents that a trainer needs.
  double staleness = 0;
  bool recomputes = false;   // device.gradient_checkpointing
  bool fast_reduce = false;  // train.reduce: fast
  double base_steps = 0;     // ResolvedJob::base_steps()
  bool is_sampled = true;    // Images are sampled, decoded and scored.
  double latent_bytes = 0;   // Of a micro-batch's trajectories, the means of steps included.
  double head_bytes = 0;     // Of a record without latents.
};

/// Of a trajectory's record: before and after each trained step. Steps that are drawn from `among`
/// form trained · (among − trained + 1)/among runs of steps in a row, on average.
double RecordedLatents(const StepSettings& steps) {
  const auto trained = static_cast<double>(steps.trained);
  const auto among = static_cast<double>(steps.window ? steps.window->size : steps.executed);
  return trained + trained * (among - trained + 1) / among;
}

/// `train.objective: sft`: one noise level of each image, without a second branch for guidance, and
/// nothing that is sampled. A record has the noised latents and what is to be predicted from them.
void UseTargets(Shape* shape) {
  shape->is_sampled = false;
  shape->rows = static_cast<double>(shape->plan.device_batch_size);
  shape->steps = shape->random = shape->base_steps = 0;
  shape->trained = 1;
}

Shape MakeShape(const ResolvedJob& resolved, const Topology& topology, const ModelCount& model) {
  const v1::JobSpec& job = resolved.spec();
  const JobPlan& plan = resolved.plan();
  Shape shape{.plan = plan};
  const auto batch = static_cast<double>(plan.device_batch_size);
  const double trainers = topology.trainer;
  shape.steps = static_cast<double>(resolved.executed_steps());
  shape.trained = static_cast<double>(resolved.steps().trained);
  shape.random = static_cast<double>(resolved.steps().random());
  shape.rows = resolved.uses_prompt() ? 2 * batch : batch;
  std::vector<double> micro(topology.trainer, 0), shards(topology.trainer, 0);
  for (int64_t v = 0; v < plan.gradient_shards; ++v) {
    const auto [begin, end] = plan.ShardRange(v);
    const int owner = plan.OwnerOfShard(v, topology.trainer);
    micro[owner] += static_cast<double>(end - begin);
    shards[owner] += 1;
  }
  shape.trainer_micro = *std::max_element(micro.begin(), micro.end());
  shape.own_shards = *std::max_element(shards.begin(), shards.end());
  shape.rollout_micro =
      plan.single_pass ? shape.trainer_micro
                       : Ceil(static_cast<double>(plan.micro_batches_per_epoch), topology.rollout);
  const auto inner = static_cast<double>(job.train().num_inner_epochs());
  shape.updates = static_cast<double>(plan.updates_per_inner_epoch) * inner;
  // With one update an inner epoch the same micro-batches come to the same trainer each time.
  const double chances = plan.updates_per_inner_epoch == 1 ? 1 : inner;
  shape.kept_share = plan.single_pass ? 0 : 1 - std::pow(1 - 1 / trainers, chances);
  shape.staleness = static_cast<double>(job.sample().max_staleness());
  shape.recomputes = job.device().gradient_checkpointing();
  shape.fast_reduce = resolved.reduce() == ReduceKind::kFast;
  shape.base_steps = static_cast<double>(resolved.base_steps());
  if (resolved.objective() == Objective::kSft) UseTargets(&shape);
  double latents = shape.is_sampled ? RecordedLatents(resolved.steps()) : 2;
  if (resolved.trust_region().records_means) latents += shape.trained;
  if (resolved.trust_region().records_base_means) latents += shape.trained;
  shape.latent_bytes = kFloatBytes * batch * latents * model.latent_values();
  shape.head_bytes = kHeadBytes * (batch + 1) + 12 * batch * shape.trained;
  return shape;
}

// ---- Seconds ----

void PredictRollout(const Shape& shape, const PlanInputs& inputs, EpochSeconds* seconds,
                    double* first_pass_encode) {
  const ModelCount& model = inputs.model;
  const Costs& costs = inputs.costs;
  const auto batch = static_cast<double>(shape.plan.device_batch_size);
  const double n = shape.rollout_micro;
  const double work = shape.rows * model.unet.flops;
  const double plain = costs.sample_step.Seconds(work);
  double trained = plain;
  if (shape.plan.single_pass) {
    trained = costs.gradient_step.Seconds(work) + (shape.recomputes ? plain : 0);
  }
  seconds->draw = n * costs.draw.Seconds(batch * (shape.random + 2) * model.latent_values());
  seconds->steps =
      n * (shape.trained * trained + (shape.steps - shape.trained + shape.base_steps) * plain);
  if (shape.is_sampled) {
    seconds->decode = n * costs.decode.Seconds(batch * model.decoder.flops);
    seconds->reward = n * costs.reward.Seconds(batch * model.image_values());
  }
  // Images are encoded one by one, each once as long as its posterior finds room.
  const double encode = n * batch * costs.encode.Seconds(model.encoder.flops);
  const double cached = kPosteriorCacheBytes / (2 * kFloatBytes * model.latent_values());
  const auto images = static_cast<double>(inputs.num_images);
  const double missed = images > cached ? 1 - cached / images : 0;
  seconds->encode = missed * encode;
  *first_pass_encode = (1 - missed) * encode;
}

/// Of an update: what trainer/loop/shard_exchange.h says.
double ExchangeSeconds(const Shape& shape, double trainers, double row_bytes, const Costs& costs) {
  const auto shards = static_cast<double>(shape.plan.gradient_shards);
  if (trainers == 1) return shards * costs.copy.Seconds(row_bytes);
  const double others = trainers - 1, slice_bytes = row_bytes / trainers;
  const double statistics = costs.link.Seconds(others, 0);
  if (shape.fast_reduce) {
    // Each slice goes to the trainer that adds it, and its sum back to all.
    return statistics + shape.own_shards * costs.copy.Seconds(row_bytes) +
           2 * costs.link.Seconds(others, others * slice_bytes);
  }
  const double slices = std::max(shape.own_shards * others, shards - shape.own_shards);
  return statistics + shards * costs.copy.Seconds(slice_bytes) +
         costs.link.Seconds(slices, slices * slice_bytes) +
         costs.link.Seconds(others, others * slice_bytes);
}

void PredictTraining(const Shape& shape, const Topology& topology, const PlanInputs& inputs,
                     EpochSeconds* seconds) {
  const Costs& costs = inputs.costs;
  const double parameters = inputs.model.unet.lora_parameters;
  const double row_bytes = kFloatBytes * parameters;
  const double update_micro = shape.updates * shape.trainer_micro;
  const double work = shape.rows * inputs.model.unet.flops;
  if (shape.plan.single_pass) {
    const auto batch = static_cast<double>(shape.plan.device_batch_size);
    seconds->replay = update_micro * batch * costs.copy.Seconds(row_bytes);
  } else {
    const double again = shape.recomputes ? costs.sample_step.Seconds(work) : 0;
    seconds->replay = update_micro * shape.trained * (costs.replay_step.Seconds(work) + again);
  }
  if (shape.staleness > 0) {
    // Micro-batches that are replayed in any update but the first; each is counted once.
    const double kept = shape.kept_share * static_cast<double>(shape.plan.micro_batches_per_epoch);
    const double replayed = std::min(kept, (shape.updates - 1) * shape.trainer_micro);
    seconds->proximal = replayed * shape.trained * costs.sample_step.Seconds(work);
  }
  seconds->exchange = shape.updates * ExchangeSeconds(shape, topology.trainer, row_bytes, costs);
  seconds->optimizer = shape.updates * costs.optimizer.Seconds(parameters);
}

/// What a trainer receives in an epoch, and how long that takes.
double IngestSeconds(const Shape& shape, const LinkCosts& link) {
  const auto records = static_cast<double>(shape.plan.micro_batches_per_epoch);
  const double bytes = records * (shape.head_bytes + shape.kept_share * shape.latent_bytes);
  return link.Seconds(records * kMessagesOfRecord, bytes);
}

void PredictTransfers(const Shape& shape, const Topology& topology, const PlanInputs& inputs,
                      EpochSeconds* seconds) {
  const LinkCosts& link = inputs.costs.link;
  const double parameters = inputs.model.unet.lora_parameters;
  // The leader announces to each rollout rank; the values go down a tree of the leader and the
  // rollout ranks, one level after the other; each binds and answers.
  const double ranks = topology.rollout;
  const double levels = std::ceil(std::log2(topology.colocated ? ranks : ranks + 1));
  seconds->publish = 2 * inputs.costs.bind.Seconds(parameters) + 2 * link.Seconds(ranks, 0) +
                     levels * link.Seconds(1, kFloatBytes * parameters);
  const double last = link.Seconds(kMessagesOfRecord, shape.head_bytes + shape.latent_bytes);
  const double behind = IngestSeconds(shape, link) - seconds->rollout();
  seconds->stream = std::max(last, behind);
}

// ---- Memory ----

double ModelBytes(double values, const ResolvedJob& job) {
  return values * (job.precision() == Precision::kFp32 ? kFloatBytes : 2);
}

/// Of a step's graph, for one row.
double GraphValues(const Shape& shape, const ModelCount& model) {
  return shape.recomputes ? model.unet.recomputed_values : model.unet.saved_values;
}

/// Of the float32 copies that the adapters' branches keep of their inputs where the model is of
/// half precision, for one row. In fp32, they keep the inputs themselves.
double CopyBytes(const ResolvedJob& job, const Shape& shape, const ModelCount& model) {
  if (job.precision() == Precision::kFp32) return 0;
  return kFloatBytes *
         (shape.recomputes ? model.unet.recomputed_adapter_inputs : model.unet.adapter_inputs);
}

double MomentBytes(const ResolvedJob& job) {
  return job.optimizer() == OptimizerKind::kAdamW8bit ? 2 : 2 * kFloatBytes;
}

MemoryUse RolloutMemory(const ResolvedJob& job, const Shape& shape, const Topology& topology,
                        const ModelCount& model) {
  const auto batch = static_cast<double>(shape.plan.device_batch_size);
  MemoryUse use;
  use.weights = ModelBytes(model.unet.parameters + model.decoder.parameters +
                               model.encoder.parameters + model.text.parameters,
                           job);
  use.lora = kFloatBytes * model.unet.lora_parameters;
  const double step =
      shape.rows * (shape.plan.single_pass ? GraphValues(shape, model) : model.unet.live_values);
  use.activations = ModelBytes(
      std::max({step, batch * model.decoder.live_values, model.encoder.live_values}), job);
  use.trajectories = kRecordsInFlight * topology.trainer *
                     (shape.head_bytes + shape.kept_share * shape.latent_bytes);
  if (shape.plan.single_pass) {
    const double samples = shape.rollout_micro * batch;
    use.sample_gradients = kFloatBytes * model.unet.lora_parameters * (samples + shape.rows);
  }
  return use;
}

MemoryUse TrainerMemory(const ResolvedJob& job, const Shape& shape, double trainers,
                        const ModelCount& model) {
  MemoryUse use;
  use.weights = ModelBytes(model.unet.parameters, job);
  use.lora = model.unet.lora_parameters *
             (2 * kFloatBytes + MomentBytes(job) + kFloatBytes * shape.staleness);
  if (job.spec().train().ema_decay() > 0) use.lora += kFloatBytes * model.unet.lora_parameters;
  if (!job.trains()) return use;
  if (!shape.plan.single_pass) {
    use.activations = ModelBytes(shape.rows * GraphValues(shape, model), job) +
                      shape.rows * CopyBytes(job, shape, model);
  }
  use.trajectories = (shape.staleness + 1) *
                     static_cast<double>(shape.plan.micro_batches_per_epoch) *
                     (shape.head_bytes + shape.kept_share * shape.latent_bytes);
  // A trainer's own shards and its slice of the others', with the slice's sum; or the sum and a
  // shard or the slices gathered (trainer/loop/shard_exchange.h).
  double gradients = 2;
  if (trainers > 1 && !shape.fast_reduce) {
    const double others = static_cast<double>(shape.plan.gradient_shards) - shape.own_shards;
    gradients = std::max(gradients, shape.own_shards + (others + 1) / trainers);
  }
  use.shards = kFloatBytes * model.unet.lora_parameters * gradients;
  return use;
}

/// One rank that does both in turn.
MemoryUse Together(const MemoryUse& rollout, const MemoryUse& trainer) {
  MemoryUse use = trainer;
  use.weights = rollout.weights;  // The trainer's UNet is the same one.
  use.activations = std::max(rollout.activations, trainer.activations);
  use.sample_gradients = rollout.sample_gradients;
  return use;
}

// ---- What saturates ----

std::string Share(double part, double whole) {
  return absl::StrCat(static_cast<int>(std::lround(100 * part / whole)), "%");
}

std::string Saturates(const Prediction& prediction, const Shape& shape) {
  const EpochSeconds& seconds = prediction.seconds;
  const Topology& topology = prediction.topology;
  struct Part {
    double seconds;
    std::string text;
  };
  std::string sampling = "sampling", training = "training";
  if (shape.rollout_micro <= 1) absl::StrAppend(&sampling, ", a micro-batch a rank already");
  if (!shape.plan.single_pass && topology.trainer >= shape.plan.gradient_shards) {
    absl::StrAppend(&training, ", a gradient shard a rank already");
  }
  const std::vector<Part> parts = {
      {seconds.rollout(), sampling},
      {seconds.replay + seconds.proximal + seconds.optimizer, training},
      {seconds.publish, "publication, the leader's link"},
      {seconds.stream, "streaming, a trainer's link"},
      {seconds.exchange, "gradient exchange, a trainer's link"}};
  const auto most = std::max_element(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return a.seconds < b.seconds;
  });
  if (prediction.epoch_seconds <= 0) return "";
  return absl::StrCat(most->text, " (", Share(most->seconds, prediction.epoch_seconds), ")");
}

}  // namespace

absl::StatusOr<Prediction> Predict(const ResolvedJob& job, const Topology& topology,
                                   const PlanInputs& inputs) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob placed, WithTopology(job, topology));
  IMAGEDDPO_ASSIGN_OR_RETURN(const ResolvedJob resolved,
                             CloseUpdate(placed, inputs.model, inputs.memory_bytes));
  const JobPlan& plan = resolved.plan();
  const Shape shape = MakeShape(resolved, topology, inputs.model);

  Prediction prediction{.topology = topology,
                        .single_pass = plan.single_pass,
                        .gradient_shards = plan.gradient_shards,
                        .samples_per_epoch = plan.samples_per_epoch};
  EpochSeconds& seconds = prediction.seconds;
  PredictRollout(shape, inputs, &seconds, &prediction.first_pass_encode);
  PredictTraining(shape, topology, inputs, &seconds);
  PredictTransfers(shape, topology, inputs, &seconds);
  const double trainer_side = seconds.publish + seconds.stream + seconds.train();
  const double rollout_side = seconds.publish + seconds.rollout();
  const bool overlaps = shape.staleness > 0 && !topology.colocated;
  prediction.epoch_seconds =
      overlaps ? std::max(rollout_side, trainer_side) : seconds.rollout() + trainer_side;

  prediction.rollout_memory = RolloutMemory(resolved, shape, topology, inputs.model);
  prediction.trainer_memory = TrainerMemory(resolved, shape, topology.trainer, inputs.model);
  if (topology.colocated) {
    prediction.rollout_memory = prediction.trainer_memory =
        Together(prediction.rollout_memory, prediction.trainer_memory);
  }
  prediction.fits = inputs.memory_bytes <= 0 ||
                    std::max(prediction.rollout_memory.total(),
                             prediction.trainer_memory.total()) <= inputs.memory_bytes;
  prediction.saturates = Saturates(prediction, shape);
  return prediction;
}

}  // namespace imageddpo

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/base/rejection.h"
#include "common/config/choices.h"
#include "common/config/resolve_steps.h"
#include "common/config/reward_service.h"
#include "common/config/reward_types.h"

namespace imageddpo {
namespace {

constexpr int64_t kMaxSide = 8192;
constexpr int64_t kMaxStaleness = 16;  // Epochs of records and versions of the LoRA are kept.

bool IsWord(const std::string& text, size_t max_size) {
  if (text.empty() || text.size() > max_size) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

bool IsPartName(const std::string& text) {
  return IsWord(text, 64) && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
         });
}

void CheckModel(const v1::JobSpec& job, Faults* faults) {
  if (!IsWord(job.name(), 64)) {
    faults->Add("name", absl::StrCat("`", job.name(), "`"),
                "1 to 64 letters, digits, `.`, `_` or `-`");
  }
  faults->Required("model.path", job.model().path(),
                   "a folder with a Stable Diffusion model in diffusers' layout");
  const std::string& precision = job.model().precision();
  faults->Choice("model.precision", precision, Words(kPrecisions));
  const v1::LoraSpec& lora = job.lora();
  faults->Range("lora.rank", lora.rank(), 1, 1024);
  faults->Real("lora.alpha", lora.alpha(), lora.alpha() > 0, "above 0");
  faults->Choice("lora.unsupported_modules", lora.unsupported_modules(),
                 Words(kUnsupportedModules));
  std::set<std::string> seen;
  for (const std::string& module : lora.target_modules()) {
    if (!IsWord(module, 256)) {
      faults->Add("lora.target_modules", absl::StrCat("`", module, "`"),
                  "the last part of a layer's path, as `to_q` or `to_out.0`");
    } else if (!seen.insert(module).second) {
      faults->Add(absl::StrCat("`lora.target_modules` has `", module, "` twice"));
    }
  }
}

void CheckSize(const v1::DataSpec& data, Faults* faults) {
  faults->Range("data.resolution", data.resolution(), 0, kMaxSide);
  if (!data.has_width() && !data.has_height()) return;
  faults->Range("data.width", data.width(), 1, kMaxSide);
  faults->Range("data.height", data.height(), 1, kMaxSide);
  if (data.resolution() != 0) {
    faults->Add(
        "`data.resolution` is a number while `data.width` and `data.height` are given; "
        "use the one or the other two");
  }
}

void CheckCorrupt(const v1::CorruptSpec& corrupt, Faults* faults) {
  if (corrupt.kind() == "frost") {
    faults->Add("data.corrupt.kind", "`frost`",
                "another: frost lays ImageNet-C's own photographs over an image, which do not come "
                "with this program; corrupt the images beforehand, and name the clean ones as "
                "`target_file_name`");
    return;
  }
  faults->Choice("data.corrupt.kind", corrupt.kind(), Words(kCorruptKinds));
  faults->Range("data.corrupt.severity", corrupt.severity(), 1, 5);
}

/// What SampleSpec and EvalSpec have in common.
template <typename Spec>
void CheckSteps(const std::string& prefix, const Spec& spec, Faults* faults) {
  faults->Range(prefix + "num_steps", spec.num_steps(), 1, 10'000);
  const double strength = spec.noise_strength();
  faults->Real(prefix + "noise_strength", strength, strength > 0 && strength <= 1,
               "above 0 and at most 1: the share of the schedule that is run");
  faults->Real(prefix + "guidance_scale", spec.guidance_scale(), spec.guidance_scale() >= 0,
               "0 or above");
}

void CheckEval(const v1::JobSpec& job, Faults* faults) {
  const v1::EvalSpec& eval = job.eval();
  if (eval.has_path())
    faults->Required("eval.path", eval.path(), "a folder; leave it out for none");
  if (eval.has_path() && !eval.files().empty()) {
    faults->Add("`eval` has `path` and `files`; use the one or the other");
  }
  std::set<std::string> seen;
  for (const std::string& file : eval.files()) {
    faults->Required("eval.files", file, "a list of image files");
    if (!seen.insert(file).second) faults->Add(absl::StrCat("`eval.files` has `", file, "` twice"));
  }
  if (job.num_epochs() == 0 && !HasHeldOutImages(job)) {
    faults->Add(
        "`num_epochs` is 0, which trains nothing and evaluates once; give `eval.path`, or a "
        "number from 1");
  }
  faults->Range("eval.every_epochs", eval.every_epochs(), 0);
  faults->Range("eval.max_images", eval.max_images(), 0, 100 * Faults::kMaxCount);
  faults->Range("eval.batch_size", eval.batch_size(), 1, 65536);
  faults->Range("eval.num_pictures", eval.num_pictures(), 0, 10'000);
  CheckSteps("eval.", eval, faults);
  faults->Real("eval.eta", eval.eta(), eval.eta() >= 0, "0 or above");
  faults->Range("eval.num_seeds", eval.num_seeds(), 1, 1000);
  if (eval.use_ema() && job.train().ema_decay() == 0) {
    faults->Add("`eval.use_ema` needs an average: set `train.ema_decay`, as 0.99");
  }
  if (eval.use_ema() && job.sample().max_staleness() > 0) {
    faults->Add(
        "`eval.use_ema` is not possible with `sample.max_staleness` above 0: averages of earlier "
        "versions are not kept; set one of the two to its default");
  }
}

void CheckData(const v1::JobSpec& job, Faults* faults) {
  if (job.num_epochs() != 0) {
    faults->Required("data.path", job.data().path(), "a folder of images");
  }
  CheckSize(job.data(), faults);
  faults->Choice("data.resize", job.data().resize(), Words(kResizes));
  if (job.data().has_corrupt()) CheckCorrupt(job.data().corrupt(), faults);
  faults->Range("data.severity", job.data().severity(), 0, 5);
  faults->Choice("data.on_error", job.data().on_error(), Words(kOnDataErrors));
  faults->Choice("data.layout", job.data().layout(), Words(kDataLayouts));
  faults->Required("data.text_column", job.data().text_column(),
                   "the key of the prompts in metadata.jsonl; leave it out for `text`");
}

template <typename Info>
std::vector<std::string> NamesOf(absl::Span<const Info> infos) {
  std::vector<std::string> names;
  for (const Info& info : infos) names.emplace_back(info.name);
  return names;
}

void CheckReward(const v1::RewardSpec& reward, const std::string& prefix, Faults* faults) {
  faults->Choice(prefix + "type", reward.type(), NamesOf(RewardTypes()));
  if (const RewardTypeInfo* const type = FindRewardType(reward.type()); type != nullptr) {
    const auto refuse = [&](const char* setting) {
      faults->Add(absl::StrCat("`", prefix, setting, "` is no setting of `type: ", type->name,
                               "`; leave it out"));
    };
    if (!type->measures.empty()) {
      faults->Choice(prefix + "measure", reward.measure(), NamesOf(type->measures));
    } else if (reward.has_measure()) {
      refuse("measure");
    }
    if (type->has_model) {
      faults->Required(prefix + "model", reward.model(), "a TorchScript file");
    } else if (reward.has_model()) {
      refuse("model");
    }
    if (reward.has_model_sha256() && !type->has_model) {
      refuse("model_sha256");
    } else if (reward.has_model_sha256() && !IsSha256(reward.model_sha256())) {
      faults->Add(prefix + "model_sha256", absl::StrCat("`", reward.model_sha256(), "`"),
                  "64 hexadecimal digits in lower case");
    }
    if (type->has_jpeg_quality) {
      faults->Range(prefix + "jpeg_quality", reward.jpeg_quality(), 1, 100);
    } else if (reward.has_jpeg_quality()) {
      refuse("jpeg_quality");
    }
    if (type->has_reference) {
      faults->Choice(prefix + "reference", reward.reference(), Words(kRewardReferences));
    } else if (reward.has_reference()) {
      refuse("reference");
    }
    if (reward.has_on_error()) {
      std::vector<std::string> words;
      for (const auto& choice : kOnRewardErrors) {
        if (type->Allows(choice.value)) words.emplace_back(choice.word);
      }
      faults->Choice(prefix + "on_error", reward.on_error(), words);
    }
    for (std::string& fault : RewardServiceFaults(reward, type->has_service, prefix)) {
      faults->Add(std::move(fault));
    }
  }
  if (reward.has_name() && !IsPartName(reward.name())) {
    faults->Add(prefix + "name", absl::StrCat("`", reward.name(), "`"),
                "1 to 64 lower-case letters, digits or `_`");
  }
  faults->Real(prefix + "weight", reward.weight(), true, "a finite number");
  faults->Real(prefix + "offset", reward.offset(), true, "a finite number");
  faults->Real(prefix + "scale", reward.scale(), reward.scale() != 0,
               "a finite number other than 0");
  faults->Real(prefix + "clamp", reward.clamp(), reward.clamp() >= 0, "0 (no limit) or above");
  faults->Choice(prefix + "on_nan", reward.on_nan(), Words(kOnNan));
  faults->Real(prefix + "max_dropped", reward.max_dropped(),
               reward.max_dropped() >= 0 && reward.max_dropped() < 1, "from 0 to below 1");
  faults->Range(prefix + "warmup_epochs", reward.warmup_epochs(), 0, 100 * Faults::kMaxCount);
}

/// The setting that names the first reward of that type; else empty.
std::string SomeKlToBase(const v1::JobSpec& job) {
  for (int i = 0; i < job.rewards_size(); ++i) {
    if (job.rewards(i).type() == NameOf(RewardType::kKlToBase)) {
      return absl::StrCat("rewards[", i, "].type");
    }
  }
  return "";
}

void CheckSsimSize(const v1::DataSpec& data, int index, Faults* faults) {
  if (!IsBelowSsimWindow(data)) return;
  const bool is_square = !data.has_width() && !data.has_height();
  const int64_t width = is_square ? data.resolution() : data.width();
  const int64_t height = is_square ? data.resolution() : data.height();
  faults->Add(absl::StrCat("`rewards[", index, "].type: ssim` compares windows of ", kSsimWindow,
                           "x", kSsimWindow, " pixels and `data` makes images of ", width, "x",
                           height, "; use larger images, or `type: l1` or `psnr`"));
}

void CheckRewards(const v1::JobSpec& job, Faults* faults) {
  const bool trains = job.num_epochs() != 0 && !IsSupervised(job);
  if (trains && job.rewards().empty()) {
    faults->Add(
        "`rewards` is empty; it needs at least one reward, as `- {type: jpeg, measure: "
        "compressibility}`");
    return;
  }
  if (HasHeldOutImages(job) && job.eval().eta() == 0 && !SomeKlToBase(job).empty()) {
    faults->Add(absl::StrCat(
        "`eval.eta` is 0, and `", SomeKlToBase(job),
        "` is `kl_to_base`: steps without noise have no divergence; set `eval.eta` above 0, or "
        "leave the reward out"));
  }
  bool none_counts = true;
  for (int i = 0; i < job.rewards_size(); ++i) {
    CheckReward(job.rewards(i), absl::StrCat("rewards[", i, "]."), faults);
    if (job.rewards(i).type() == NameOf(RewardType::kSsim)) CheckSsimSize(job.data(), i, faults);
    none_counts = none_counts && (job.rewards(i).weight() == 0 || job.rewards(i).held_out());
  }
  if (trains && none_counts) {
    faults->Add(
        "each of `rewards` has `weight: 0` or is held out, so nothing is rewarded; give one "
        "another "
        "weight, or `held_out: false`");
  }
}

void CheckSample(const v1::SampleSpec& sample, Faults* faults) {
  CheckSteps("sample.", sample, faults);
  const double rescale = sample.guidance_rescale();
  faults->Real("sample.guidance_rescale", rescale, rescale >= 0 && rescale <= 1, "from 0 to 1");
  faults->Real("sample.eta", sample.eta(), sample.eta() > 0,
               "above 0: without noise in the steps there is no probability to train; 1 is usual");
  faults->Range("sample.max_staleness", sample.max_staleness(), 0, kMaxStaleness);
}

void CheckCheckpoint(const v1::JobSpec& job, Faults* faults) {
  const v1::CheckpointSpec& checkpoint = job.checkpoint();
  faults->Range("checkpoint.every_epochs", checkpoint.every_epochs(), 1);
  faults->Range("checkpoint.keep", checkpoint.keep(), 0);
  faults->Real("checkpoint.every_minutes", checkpoint.every_minutes(),
               checkpoint.every_minutes() >= 0, "at least 0");
  faults->Choice("checkpoint.best_mode", checkpoint.best_mode(), Words(kBestModes));
  if (!checkpoint.has_best()) return;
  if (!HasHeldOutImages(job)) {
    faults->Add(
        "`checkpoint.best` chooses among evaluations, and the job has none; give `eval.path`, or "
        "leave it out");
  }
  // What a model or a service names, the first evaluation tells.
  const std::vector<std::string> names = RewardNames(job);
  for (size_t i = 0; i < names.size(); ++i) {
    const RewardTypeInfo* const type = FindRewardType(job.rewards(static_cast<int>(i)).type());
    const bool may_have_it = type != nullptr && type->has_own_parts;
    if (may_have_it && absl::StartsWith(checkpoint.best(), names[i] + ".")) return;
  }
  faults->Choice("checkpoint.best", checkpoint.best(), EvalMeasures(job));
}

// Gangs that can never work, whatever the pool; what the pool allows is NamedTopology()'s.
void CheckTopology(const v1::TopologySpec& topology, const JobPlan& plan, Faults* faults) {
  if (topology.has_colocated() && (topology.has_rollout() || topology.has_trainer())) {
    faults->Add("`topology` has `colocated` and `rollout`/`trainer`; use the one or the other two");
    return;
  }
  if (topology.has_rollout() != topology.has_trainer()) {
    faults->Add(absl::StrCat("`topology` has `", topology.has_rollout() ? "rollout" : "trainer",
                             "` alone; it needs `", topology.has_rollout() ? "trainer" : "rollout",
                             "` as well"));
    return;
  }
  const auto check = [&](const char* name, int64_t ranks, int64_t limit, const std::string& why) {
    if (ranks >= 1 && ranks <= limit) return;
    faults->Add(absl::StrCat("topology.", name), absl::StrCat(ranks),
                absl::StrCat("from 1 to ", limit, ", ", why));
  };
  const auto check_min = [&](const std::string& name, bool has_min, int64_t min, bool has_asked,
                             int64_t asked) {
    if (!has_min) return;
    if (!has_asked) {
      faults->Add(absl::StrCat("`topology.min_", name, "` needs `topology.", name,
                               "`; `topology: auto` fits every pool without it"));
    } else if (min < 1 || min > asked) {
      faults->Add(absl::StrCat("topology.min_", name), absl::StrCat(min),
                  absl::StrCat("from 1 to ", asked, ", which is `topology.", name, "`"));
    }
  };
  check_min("rollout", topology.has_min_rollout(), topology.min_rollout(), topology.has_rollout(),
            topology.rollout());
  check_min("trainer", topology.has_min_trainer(), topology.min_trainer(), topology.has_trainer(),
            topology.trainer());
  check_min("colocated", topology.has_min_colocated(), topology.min_colocated(),
            topology.has_colocated(), topology.colocated());
  const std::string shards = absl::StrCat(
      "the gradient shards of an update; a larger `train.gradient_shards`, or a smaller "
      "`device.device_batch_size`, allows more");
  const std::string micro_batches =
      absl::StrCat("the micro-batches of an epoch (of ", plan.device_batch_size, " samples each)");
  if (topology.has_colocated())
    check("colocated", topology.colocated(), plan.gradient_shards, shards);
  if (topology.has_rollout()) {
    check("rollout", topology.rollout(), plan.micro_batches_per_epoch, micro_batches);
    check("trainer", topology.trainer(), plan.gradient_shards, shards);
  }
}

}  // namespace

absl::Status ValidateJob(const v1::JobSpec& job, const absl::StatusOr<JobPlan>& plan) {
  Faults faults;
  CheckModel(job, &faults);
  CheckData(job, &faults);
  CheckEval(job, &faults);
  CheckRewards(job, &faults);
  CheckSample(job.sample(), &faults);
  CheckTrain(job.train(), &faults);
  CheckObjective(job, &faults);
  CheckTrainedSteps(job, &faults);
  CheckAdvantage(job, &faults);
  CheckGuards(job, &faults);
  faults.Range("num_epochs", job.num_epochs(), 0, 100 * Faults::kMaxCount);
  CheckCheckpoint(job, &faults);
  faults.Real("max_stage_seconds", job.max_stage_seconds(), job.max_stage_seconds() >= 0,
              "0 (no limit) or above");
  faults.Range("device.num_threads", job.device().num_threads(), 0, 1024);
  if (job.device().fused_kernels() && job.model().precision() == "fp16") {
    faults.Add("`device.fused_kernels` are for `model.precision` fp32 and bf16, and it is fp16");
  }
  if (plan.ok()) {
    CheckTopology(job.topology(), *plan, &faults);
    if (const std::string why = WhyNoSinglePass(job, *plan); plan->single_pass && !why.empty()) {
      faults.Add(absl::StrCat("`train.update: single_pass` is not possible: ", why,
                              "; or use `train.update: replay`"));
    }
  } else {
    const Rejection rejection = RejectionOf(plan.status());
    for (const FieldViolation& fault : rejection.violations) faults.Add(fault.description);
    if (rejection.violations.empty()) return plan.status();  // A caller takes the plan for granted.
  }
  return faults.ToStatus();
}

}  // namespace imageddpo

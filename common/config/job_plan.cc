#include "common/config/job_plan.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/config/resolve_steps.h"

namespace imageddpo {
namespace {

/// Enough for 64 trainers to share an update; more shards would only be more to send.
constexpr int64_t kMaxDefaultShards = 64;
constexpr int64_t kMaxCount = 1 << 20;  // Of each factor: products stay far inside int64.

absl::Status CheckCounts(const v1::JobSpec& job) {
  Faults faults;
  const auto check = [&faults](const char* setting, int64_t value) {
    if (value >= 1 && value <= kMaxCount) return;
    faults.Add(absl::StrCat("`", setting, "` is ", value, "; it must be from 1 to ", kMaxCount));
  };
  check("sample.batch_size", job.sample().batch_size());
  check("sample.num_batches_per_epoch", job.sample().num_batches_per_epoch());
  check("train.batch_size", job.train().batch_size());
  check("train.gradient_accumulation_steps", job.train().gradient_accumulation_steps());
  if (job.sample().has_group_size()) check("sample.group_size", job.sample().group_size());
  if (const int64_t size = job.device().device_batch_size(); size != 0) {
    check("device.device_batch_size", size);
  }
  return faults.ToStatus();
}

int64_t LargestDivisorUpTo(int64_t number, int64_t limit) {
  for (int64_t divisor = std::min(number, limit); divisor > 1; --divisor) {
    if (number % divisor == 0) return divisor;
  }
  return 1;
}

std::string Product(const char* a, int64_t a_value, const char* b, int64_t b_value) {
  return absl::StrCat("`", a, "` ", a_value, " × `", b, "` ", b_value, " = ", a_value * b_value);
}

// The epoch is no whole number of updates.
absl::Status EpochError(const v1::JobSpec& job, const JobPlan& plan) {
  const int64_t sample_batch = job.sample().batch_size();
  const int64_t batches = job.sample().num_batches_per_epoch();
  const int64_t accumulation = job.train().gradient_accumulation_steps();
  const int64_t step = plan.samples_per_update / std::gcd(sample_batch, plan.samples_per_update);
  const int64_t more_batches = (batches + step - 1) / step * step;
  std::string remedy = absl::StrCat("set `sample.num_batches_per_epoch: ", more_batches, "`");
  if (plan.samples_per_epoch % accumulation == 0) {
    absl::StrAppend(
        &remedy, " or `train.batch_size: ",
        LargestDivisorUpTo(plan.samples_per_epoch / accumulation, job.train().batch_size()), "`");
  }
  return InvalidSettings({absl::StrCat(
      "the samples of an epoch (",
      Product("sample.batch_size", sample_batch, "sample.num_batches_per_epoch", batches),
      ") must be a multiple of the samples of an update (",
      Product("train.batch_size", job.train().batch_size(), "train.gradient_accumulation_steps",
              accumulation),
      "); ", remedy)});
}

// The epoch is no whole number of groups.
absl::Status GroupError(const v1::JobSpec& job, const JobPlan& plan) {
  const int64_t batches = job.sample().num_batches_per_epoch();
  const int64_t times = plan.group_size / std::gcd(plan.samples_per_epoch, plan.group_size);
  return InvalidSettings(
      {absl::StrCat("the samples of an epoch (",
                    Product("sample.batch_size", job.sample().batch_size(),
                            "sample.num_batches_per_epoch", batches),
                    ") must be a multiple of `sample.group_size` ", plan.group_size, "; set it to ",
                    LargestDivisorUpTo(plan.samples_per_epoch, plan.group_size),
                    ", or `sample.num_batches_per_epoch: ", batches * times, "`")});
}

// Groups that are drawn again do not fit into micro-batches.
absl::Status ResampleError(const JobPlan& plan) {
  return InvalidSettings({absl::StrCat(
      "`advantage.zero_std: resample` needs whole groups in a micro-batch, so that the rank that "
      "samples it sees all rewards of a group: `device.device_batch_size` ",
      plan.device_batch_size, " is no multiple of `sample.group_size` ", plan.group_size,
      "; make it one (left open, it is one where `sample.batch_size` and `train.batch_size` are), "
      "or use `advantage.zero_std: drop`")});
}

absl::Status DeviceBatchError(const v1::JobSpec& job, const JobPlan& plan) {
  return InvalidSettings({absl::StrCat(
      "the samples of an update (",
      Product("train.batch_size", job.train().batch_size(), "train.gradient_accumulation_steps",
              job.train().gradient_accumulation_steps()),
      ") must be a multiple of `device.device_batch_size` ", plan.device_batch_size, "; set it to ",
      LargestDivisorUpTo(plan.samples_per_update, plan.device_batch_size),
      ", or leave it out to get a size that fits")});
}

}  // namespace

std::pair<int64_t, int64_t> JobPlan::ShardRange(int64_t shard) const {
  return {shard * micro_batches_per_update / gradient_shards,
          (shard + 1) * micro_batches_per_update / gradient_shards};
}

int64_t JobPlan::ShardOf(int64_t position) const {
  return ((position + 1) * gradient_shards - 1) / micro_batches_per_update;
}

int JobPlan::OwnerOfShard(int64_t shard, int num_trainers) const {
  return static_cast<int>(shard * num_trainers / gradient_shards);
}

int64_t JobPlan::MostSamplesOfATrainer(int64_t num_trainers) const {
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t micro_batches =
      up(gradient_shards, num_trainers) * up(micro_batches_per_update, gradient_shards);
  return std::min(micro_batches * device_batch_size, samples_per_update);
}

std::vector<int64_t> MicroBatchChoices(const v1::JobSpec& job, int64_t most) {
  const int64_t both = std::gcd(std::clamp<int64_t>(job.sample().batch_size(), 1, kMaxCount),
                                std::clamp<int64_t>(job.train().batch_size(), 1, kMaxCount));
  int64_t unit = 1;  // Sizes are multiples of this.
  if (ResamplesGroups(job)) unit = std::max<int64_t>(1, job.sample().group_size());
  if (both % unit != 0) unit = 1;  // MakeJobPlan() refuses the job.
  const auto is_possible = [both, unit](int64_t size) {
    return both % size == 0 && size % unit == 0;
  };
  std::vector<int64_t> sizes;
  for (int64_t size = std::min(both, most); size > 0; --size) {
    if (is_possible(size)) sizes.push_back(size);
  }
  if (both > most && (sizes.empty() || sizes.front() < most / 2)) {
    int64_t above = most + 1;
    while (!is_possible(above)) ++above;
    sizes.insert(sizes.begin(), above);
  }
  return sizes;
}

absl::StatusOr<JobPlan> MakeJobPlan(const v1::JobSpec& job) {
  if (const absl::Status status = CheckCounts(job); !status.ok()) return status;
  JobPlan plan;
  plan.samples_per_epoch = job.sample().batch_size() * job.sample().num_batches_per_epoch();
  plan.samples_per_update = job.train().batch_size() * job.train().gradient_accumulation_steps();
  if (job.sample().has_group_size()) plan.group_size = job.sample().group_size();
  plan.device_batch_size = job.device().device_batch_size();
  if (plan.device_batch_size == 0) {
    plan.device_batch_size = MicroBatchChoices(job, kMostSamplesOnCpu).front();
  }
  if (plan.samples_per_epoch % plan.samples_per_update != 0) return EpochError(job, plan);
  if (plan.samples_per_epoch % plan.group_size != 0) return GroupError(job, plan);
  if (plan.samples_per_update % plan.device_batch_size != 0) return DeviceBatchError(job, plan);
  if (ResamplesGroups(job) && plan.device_batch_size % plan.group_size != 0) {
    return ResampleError(plan);
  }
  plan.micro_batches_per_epoch = plan.samples_per_epoch / plan.device_batch_size;
  plan.micro_batches_per_update = plan.samples_per_update / plan.device_batch_size;
  plan.updates_per_inner_epoch = plan.samples_per_epoch / plan.samples_per_update;

  const int64_t shards = job.train().gradient_shards();
  if (shards < 0 || shards > plan.micro_batches_per_update) {
    return InvalidSettings({absl::StrCat(
        "`train.gradient_shards` is ", shards, "; it must be from 0 (chosen) to ",
        plan.micro_batches_per_update, ", the micro-batches of an update (",
        plan.samples_per_update, " samples in micro-batches of ", plan.device_batch_size, ")")});
  }
  plan.gradient_shards =
      shards == 0 ? std::min(kMaxDefaultShards, plan.micro_batches_per_update) : shards;
  return plan;
}

}  // namespace imageddpo

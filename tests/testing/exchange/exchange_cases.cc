#include "tests/testing/exchange/exchange_cases.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/config/job_plan.h"
#include "common/lora/lora.h"
#include "common/sd/unet.h"
#include "common/trajectory/publish/weight_publisher.h"
#include "tests/testing/exchange/counting_communicator.h"
#include "trainer/loop/shard_exchange.h"

namespace imageddpo {
namespace {

using Group = std::unique_ptr<Communicator>;
using Reduce = ReduceKind;

std::vector<int> RanksFrom(int first, const Communicator& group) {
  std::vector<int> ranks(static_cast<size_t>(group.world_size() - first));
  std::iota(ranks.begin(), ranks.end(), first);
  return ranks;
}

/// [P] of gradient shard v; sizes differ, so that the order of a sum shows in its bits.
at::Tensor Shard(int64_t v, int64_t num_parameters) {
  return at::arange(num_parameters, at::kFloat)
      .mul(0.37 * static_cast<double>(v + 1))
      .sin()
      .mul(v % 3 == 0 ? 1000 : 1);
}

at::Tensor SumOnOneRank(int64_t num_shards, int64_t num_parameters) {
  at::Tensor sum_P = Shard(0, num_parameters);
  for (int64_t v = 1; v < num_shards; ++v) sum_P.add_(Shard(v, num_parameters));
  return sum_P;
}

struct Exchanged {
  at::Tensor sum_P;
  double received_bytes = 0;
  double own_shards = 0;
};

/// The trainers are the ranks of the group from `first` on, this one among them.
Exchanged Exchange(Communicator* group, int first, int64_t num_shards, int64_t num_parameters,
                   Reduce reduce) {
  CountingCommunicator counting(group);
  ShardExchange exchange(&counting, RanksFrom(first, *group), group->rank() - first, reduce,
                         kConformanceTimeout);
  JobPlan plan;
  plan.gradient_shards = num_shards;
  Exchanged result;
  result.sum_P = *exchange.SumShards(
      num_shards, num_parameters,
      [&](int64_t v) { return plan.OwnerOfShard(v, exchange.num_trainers()); },
      [&](int64_t v) -> absl::StatusOr<at::Tensor> {
        result.own_shards += 1;
        return Shard(v, num_parameters);
      });
  result.received_bytes = counting.received_bytes();
  return result;
}

void GradientsHaveTheBitsOfOneRank(Group group, Findings& findings) {
  for (const int first : {0, 1}) {  // With and without a rank that does not train.
    const int trainers = group->world_size() - first;
    if (group->rank() < first || trainers < 1) continue;
    for (const int64_t shards : {1, trainers - 1, trainers, trainers + 1, 3 * trainers + 2, 13}) {
      for (const int64_t parameters : {1, 7, 1023}) {
        if (shards < 1) continue;
        const at::Tensor sum_P =
            Exchange(group.get(), first, shards, parameters, Reduce::kExact).sum_P;
        findings.Expect(at::equal(sum_P, SumOnOneRank(shards, parameters)),
                        absl::StrCat(shards, " shards of ", parameters, " parameters"));
      }
    }
  }
}

void AFastSumIsCloseToIt(Group group, Findings& findings) {
  for (const int64_t shards : {1, group->world_size(), 13}) {
    for (const int64_t parameters : {1, 7, 1023}) {
      const at::Tensor sum_P = Exchange(group.get(), 0, shards, parameters, Reduce::kFast).sum_P;
      findings.Expect(at::allclose(sum_P, SumOnOneRank(shards, parameters), 1e-4, 1e-3),
                      absl::StrCat(shards, " shards of ", parameters, " parameters"));
    }
  }
}

void ATrainerReceivesWhatTheHeaderSays(Group group, Findings& findings) {
  constexpr int64_t kParameters = 10'007;
  const double gradient_bytes = 4 * kParameters, trainers = group->world_size();
  const auto near = [&](double found, double expected, const std::string& what) {
    findings.Expect(std::abs(found - expected) <= 0.05 * expected,
                    absl::StrCat(what, ": received ", found, " bytes, expected ", expected));
  };
  for (const int64_t shards : {1, 5, group->world_size(), 3 * group->world_size(), 64}) {
    const std::string what = absl::StrCat(shards, " shards");
    const auto v = static_cast<double>(shards);
    const Exchanged exact = Exchange(group.get(), 0, shards, kParameters, Reduce::kExact);
    near(exact.received_bytes,
         (v - exact.own_shards + trainers - 1) / trainers * gradient_bytes * (trainers > 1 ? 1 : 0),
         what);
    findings.Expect(exact.received_bytes <= 1.05 * (std::ceil(v / trainers) + 1) * gradient_bytes,
                    absl::StrCat(what, ": received ", exact.received_bytes, " bytes"));
    const Exchanged fast = Exchange(group.get(), 0, shards, kParameters, Reduce::kFast);
    near(fast.received_bytes, 2 * (trainers - 1) / trainers * gradient_bytes, what + ", fast");
  }
}

/// A rank's LoRA on the demo's UNet; all ranks have the same values of a version.
struct Model {
  std::unique_ptr<Unet> unet;
  Lora lora;

  Model() {
    auto loaded = Unet::Load("deploy/demo/tiny-sd/unet", {});
    if (!loaded.ok()) throw std::runtime_error(loaded.status().ToString());
    unet = *std::move(loaded);
    lora = *Lora::Create(unet->linears(), {}, [](const std::string&, at::IntArrayRef shape) {
      return at::arange(shape[0] * shape[1], at::kFloat).view(shape);
    });
    SetVersion(-1);
  }
  void SetVersion(int64_t version) {
    const at::NoGradGuard no_grad;
    lora.Unflatten(at::arange(lora.num_parameters(), at::kFloat).mul(static_cast<double>(version)));
  }
};

/// Four versions from the leader to the rollout ranks, of which some ask early for the next.
void Publish(Communicator* group, int leader, const std::vector<int>& rollout_ranks,
             Findings& findings) {
  CountingCommunicator counting(group);
  Model model, published;
  WeightPublisher publisher(&counting, rollout_ranks);
  WeightReceiver receiver(&counting, leader, rollout_ranks);
  const bool leads = group->rank() == leader;
  const bool samples =
      group->rank() >= rollout_ranks.front() && group->rank() <= rollout_ranks.back();
  const auto expect_ok = [&](const absl::Status& status, int64_t version) {
    findings.Expect(status.ok(), absl::StrCat("version ", version, ": ", status.ToString()));
  };
  for (int64_t version = 0; version < 4; ++version) {
    published.SetVersion(version);
    if (leads) publisher.Announce(published.lora, version, published.lora.Hash());
    if (samples) {
      expect_ok(receiver.Receive(version, &model.lora, model.unet.get(), kConformanceTimeout),
                version);
      findings.Expect(at::equal(model.lora.Flatten(), published.lora.Flatten()),
                      absl::StrCat("version ", version, " has other bits"));
      if (version < 3 && group->rank() % 2 == 0) receiver.Expect(model.lora.num_parameters());
    }
    if (leads && version > 0) expect_ok(publisher.CheckReceipts(kConformanceTimeout), version - 1);
  }
  if (leads) expect_ok(publisher.CheckReceipts(kConformanceTimeout), 3);
  const double expected = leads ? 0 : 4 * 4 * static_cast<double>(model.lora.num_parameters());
  findings.Expect(!samples || counting.received_bytes() == expected,
                  absl::StrCat("received ", counting.received_bytes(), ", expected ", expected));
}

void PublicationToRanksThatSample(Group group, Findings& findings) {
  if (group->world_size() == 1) return;
  std::vector<int> rollout_ranks = RanksFrom(0, *group);
  rollout_ranks.pop_back();
  Publish(group.get(), group->world_size() - 1, rollout_ranks, findings);
}

void PublicationAmongColocatedRanks(Group group, Findings& findings) {
  Publish(group.get(), 0, RanksFrom(0, *group), findings);
}

}  // namespace

std::vector<ConformanceCase> ExchangeCases() {
  return {{"GradientsHaveTheBitsOfOneRank", GradientsHaveTheBitsOfOneRank},
          {"AFastSumIsCloseToIt", AFastSumIsCloseToIt},
          {"ATrainerReceivesWhatTheHeaderSays", ATrainerReceivesWhatTheHeaderSays},
          {"PublicationToRanksThatSample", PublicationToRanksThatSample},
          {"PublicationAmongColocatedRanks", PublicationAmongColocatedRanks}};
}

}  // namespace imageddpo

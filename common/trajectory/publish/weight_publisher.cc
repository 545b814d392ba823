#include "common/trajectory/publish/weight_publisher.h"

#include <ATen/ops/empty.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/device/copies.h"
#include "common/trajectory/record/tags.h"
#include "imageddpo/v1/trajectory.pb.h"

namespace imageddpo {
namespace {

template <typename Found, typename Wanted>
absl::Status Differs(const std::string& what, const Found& found, const Wanted& wanted) {
  return absl::InternalError(absl::StrCat(what, " is ", found, ", expected ", wanted,
                                          "; the LoRA was not applied where it should have been"));
}

/// The leader and the rollout ranks, which it may be one of.
RankGroup PublicationGroup(int leader, std::vector<int> ranks) {
  ranks.push_back(leader);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return {.ranks = std::move(ranks), .tag = kWeightsTag};
}

}  // namespace

WeightPublisher::WeightPublisher(Communicator* gang, const std::vector<int>& rollout_ranks)
    : gang_(gang),
      rollout_ranks_(rollout_ranks),
      group_(PublicationGroup(gang->rank(), rollout_ranks)) {}

void WeightPublisher::Announce(const Lora& lora, int64_t version, std::string hash) {
  const at::Tensor values_P = MoveTo(lora.Flatten(), gang_->transfer_device());
  Published published{.version = version,
                      .num_modules = static_cast<int64_t>(lora.modules().size()),
                      .hash = std::move(hash),
                      .works = {}};
  v1::WeightAnnouncement announcement;
  announcement.set_version(version);
  announcement.set_num_modules(published.num_modules);
  announcement.set_num_parameters(lora.num_parameters());
  announcement.set_hash(published.hash);
  const std::string head = announcement.SerializeAsString();
  for (const int rank : rollout_ranks_) {
    published.works.push_back(gang_->SendBytes(head, rank, kWeightsTag));
    if (rank == gang_->rank()) {
      published.works.push_back(gang_->Send(values_P, rank, kWeightsTag));
    }
  }
  published.works.push_back(gang_->Broadcast(values_P, gang_->rank(), group_));
  published_.push_back(std::move(published));
}

absl::Status WeightPublisher::CheckReceipts(std::chrono::milliseconds timeout) {
  Published& published = published_.front();
  for (auto& work : published.works) work->Wait(timeout);
  for (const int rank : rollout_ranks_) {
    v1::WeightReceipt receipt;
    if (!receipt.ParseFromString(gang_->RecvBytes(rank, kReceiptTag, timeout))) {
      return absl::InternalError(absl::StrCat("gang rank ", rank, ": its receipt cannot be read"));
    }
    const std::string who = absl::StrCat("gang rank ", rank, ": ");
    if (receipt.version() != published.version) {
      return Differs(who + "its LoRA version", receipt.version(), published.version);
    }
    if (receipt.modules_bound() != published.num_modules) {
      return Differs(who + "its number of bound modules", receipt.modules_bound(),
                     published.num_modules);
    }
    if (receipt.hash() != published.hash) {
      return Differs(who + "its LoRA hash", receipt.hash(), published.hash);
    }
  }
  published_.pop_front();
  return absl::OkStatus();
}

WeightReceiver::WeightReceiver(Communicator* gang, int leader,
                               const std::vector<int>& rollout_ranks)
    : gang_(gang), leader_(leader), group_(PublicationGroup(leader, rollout_ranks)) {}

void WeightReceiver::Expect(int64_t num_parameters) {
  values_P_ = at::empty({num_parameters},
                        at::TensorOptions().dtype(at::kFloat).device(gang_->transfer_device()));
  work_ = leader_ == gang_->rank() ? gang_->Recv(values_P_, leader_, kWeightsTag)
                                   : gang_->Broadcast(values_P_, leader_, group_);
}

absl::Status WeightReceiver::Receive(int64_t version, Lora* lora, Denoiser* denoiser,
                                     std::chrono::milliseconds timeout) {
  v1::WeightAnnouncement announcement;
  if (!announcement.ParseFromString(gang_->RecvBytes(leader_, kWeightsTag, timeout))) {
    return absl::InternalError("the announcement of a LoRA version cannot be read");
  }
  if (announcement.version() != version) {
    return Differs("the announced LoRA version", announcement.version(), version);
  }
  if (announcement.num_parameters() != lora->num_parameters()) {
    return Differs("the number of parameters of the announced LoRA", announcement.num_parameters(),
                   lora->num_parameters());
  }
  if (work_ == nullptr) Expect(lora->num_parameters());
  std::exchange(work_, nullptr)->Wait(timeout);
  lora->Unflatten(values_P_);
  values_P_ = at::Tensor();
  IMAGEDDPO_ASSIGN_OR_RETURN(const int modules_bound, denoiser->BindLora(*lora));
  v1::WeightReceipt receipt;
  receipt.set_version(version);
  receipt.set_modules_bound(modules_bound);
  receipt.set_hash(lora->Hash());
  // No wait: the leader may be this same rank, which receives it afterwards.
  gang_->SendBytes(receipt.SerializeAsString(), leader_, kReceiptTag);
  return absl::OkStatus();
}

}  // namespace imageddpo

#include "common/trajectory/weights.h"

#include <ATen/ops/empty.h>
#include <absl/strings/str_cat.h>

#include <string>

#include "common/base/status.h"
#include "common/trajectory/tags.h"
#include "imageddpo/v1/trajectory.pb.h"

namespace imageddpo {
namespace {

template <typename Found, typename Wanted>
absl::Status Differs(const std::string& what, const Found& found, const Wanted& wanted) {
  return absl::InternalError(absl::StrCat(what, " is ", found, ", expected ", wanted,
                                          "; the LoRA was not applied where it should have been"));
}

}  // namespace

std::vector<std::unique_ptr<Work>> AnnounceWeights(Communicator* gang,
                                                   const std::vector<int>& rollout_ranks,
                                                   const Lora& lora, int64_t version) {
  v1::WeightAnnouncement announcement;
  announcement.set_version(version);
  announcement.set_num_modules(static_cast<int64_t>(lora.modules().size()));
  announcement.set_num_parameters(lora.num_parameters());
  announcement.set_hash(lora.Hash());
  const at::Tensor values_P = lora.Flatten().to(at::kCPU);
  std::vector<std::unique_ptr<Work>> works;
  for (const int rank : rollout_ranks) {
    works.push_back(gang->SendBytes(announcement.SerializeAsString(), rank, kWeightsTag));
    works.push_back(gang->Send(values_P, rank, kWeightsTag));
  }
  return works;
}

absl::Status ReceiveWeights(Communicator* gang, int leader, int64_t version, Lora* lora, Unet* unet,
                            std::chrono::milliseconds timeout) {
  v1::WeightAnnouncement announcement;
  if (!announcement.ParseFromString(gang->RecvBytes(leader, kWeightsTag, timeout))) {
    return absl::InternalError("the announcement of a LoRA version cannot be read");
  }
  if (announcement.version() != version) {
    return Differs("the announced LoRA version", announcement.version(), version);
  }
  if (announcement.num_parameters() != lora->num_parameters()) {
    return Differs("the number of parameters of the announced LoRA", announcement.num_parameters(),
                   lora->num_parameters());
  }
  const at::Tensor values_P = at::empty({lora->num_parameters()}, at::kFloat);
  gang->Recv(values_P, leader, kWeightsTag)->Wait(timeout);
  lora->Unflatten(values_P);
  IMAGEDDPO_ASSIGN_OR_RETURN(const int modules_bound, unet->BindLora(*lora));
  v1::WeightReceipt receipt;
  receipt.set_version(version);
  receipt.set_modules_bound(modules_bound);
  receipt.set_hash(lora->Hash());
  // Not waited for: the leader may be this very rank, which takes it in afterwards.
  gang->SendBytes(receipt.SerializeAsString(), leader, kReceiptTag);
  return absl::OkStatus();
}

absl::Status CheckReceipts(Communicator* gang, const std::vector<int>& rollout_ranks,
                           const Lora& lora, int64_t version, std::chrono::milliseconds timeout) {
  const std::string hash = lora.Hash();
  const auto num_modules = static_cast<int64_t>(lora.modules().size());
  for (const int rank : rollout_ranks) {
    v1::WeightReceipt receipt;
    if (!receipt.ParseFromString(gang->RecvBytes(rank, kReceiptTag, timeout))) {
      return absl::InternalError(absl::StrCat("gang rank ", rank, ": its receipt cannot be read"));
    }
    const std::string who = absl::StrCat("gang rank ", rank, ": ");
    if (receipt.version() != version) {
      return Differs(who + "its LoRA version", receipt.version(), version);
    }
    if (receipt.modules_bound() != num_modules) {
      return Differs(who + "its number of bound modules", receipt.modules_bound(), num_modules);
    }
    if (receipt.hash() != hash) return Differs(who + "its LoRA hash", receipt.hash(), hash);
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

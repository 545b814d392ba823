#include "trainer/algo/loss_rule.h"

#include "trainer/algo/ppo_loss.h"

namespace imageddpo {

std::unique_ptr<LossRule> MakeLossRule(const v1::TrainSpec& spec) {
  return std::make_unique<PpoLoss>(PpoOptions{.clip_range = spec.clip_range(),
                                              .adv_clip_max = spec.adv_clip_max(),
                                              .staleness_weight_cap = spec.staleness_weight_cap()});
}

}  // namespace imageddpo

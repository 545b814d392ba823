#include "trainer/algo/loss_rule.h"

#include "trainer/algo/ppo_loss.h"

namespace imageddpo {

std::unique_ptr<LossRule> MakeLossRule(const ResolvedJob& job) {
  const v1::TrainSpec& spec = job.spec().train();
  return std::make_unique<PpoLoss>(PpoOptions{.clip_range = job.clip_range(),
                                              .adv_clip_max = spec.adv_clip_max(),
                                              .staleness_weight_cap = spec.staleness_weight_cap(),
                                              .trust_region = job.trust_region().kind,
                                              .kl_limit = job.trust_region().kl_limit,
                                              .kl_coef = job.trust_region().kl_coef});
}

}  // namespace imageddpo

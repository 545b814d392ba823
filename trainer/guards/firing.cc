#include "trainer/guards/firing.h"

#include <absl/strings/str_cat.h>

#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr Choice<Guard> kGuards[] = {{Guard::kNonFinite, "non_finite"},
                                     {Guard::kGradientSpike, "gradient_spike"},
                                     {Guard::kRewardCollapse, "reward_collapse"},
                                     {Guard::kApproxKl, "approx_kl"},
                                     {Guard::kKlToBase, "kl_to_base"},
                                     {Guard::kZeroSpread, "zero_spread"},
                                     {Guard::kImageStatistics, "image_statistics"},
                                     {Guard::kHeldOut, "held_out"}};

GuardPolicy PolicyOf(Guard guard, const GuardsSettings& settings) {
  switch (guard) {
    case Guard::kNonFinite:
      return settings.non_finite;
    case Guard::kGradientSpike:
      return settings.gradient_spike.policy;
    case Guard::kRewardCollapse:
      return settings.reward_collapse.policy;
    case Guard::kApproxKl:
      return settings.approx_kl.policy;
    case Guard::kKlToBase:
      return settings.kl_to_base.policy;
    case Guard::kZeroSpread:
      return settings.zero_spread.policy;
    case Guard::kImageStatistics:
      return settings.image_statistics.policy;
    case Guard::kHeldOut:
      return settings.held_out.policy;
  }
  return GuardPolicy::kOff;
}

std::string WordOfAction(GuardPolicy action) {
  return action == GuardPolicy::kSkip ? WordOf(kNonFinitePolicies, action)
                                      : WordOf(kGuardPolicies, action);
}

}  // namespace

std::string GuardName(Guard guard) { return WordOf(kGuards, guard); }

GuardPolicy ActionFor(const Firing& firing, const GuardsSettings& settings) {
  const GuardPolicy policy = PolicyOf(firing.guard, settings);
  if (policy == GuardPolicy::kSkip && firing.cannot_skip) return GuardPolicy::kFail;
  const bool is_used_up = settings.rollbacks >= settings.max_rollbacks;
  return policy == GuardPolicy::kRollback && is_used_up ? GuardPolicy::kPause : policy;
}

std::string MessageOf(const Firing& firing, const GuardsSettings& settings) {
  const std::string seen = absl::StrCat("guard ", GuardName(firing.guard), ", epoch ",
                                        firing.epoch + 1, ": ", firing.what);
  switch (ActionFor(firing, settings)) {
    case GuardPolicy::kOff:
    case GuardPolicy::kWarn:
      return absl::StrCat(seen, "; the job goes on");
    case GuardPolicy::kSkip:
      return absl::StrCat(seen, "; the update is skipped");
    case GuardPolicy::kRollback:
      return absl::StrCat(seen, "; the job goes back to its newest checkpoint of at most ",
                          firing.good_epochs, " epochs");
    case GuardPolicy::kPause:
      if (PolicyOf(firing.guard, settings) == GuardPolicy::kRollback) {
        return absl::StrCat(seen, "; the job is paused, since it was taken back ",
                            settings.rollbacks, " times already (`guards.max_rollbacks`)");
      }
      return absl::StrCat(seen, "; the job is paused");
    case GuardPolicy::kFail:
      return absl::StrCat(seen, "; the job fails");
  }
  return seen;
}

v1::WorkerMessage ReportOf(const Firing& firing, const GuardsSettings& settings,
                           const std::string& job_id) {
  v1::WorkerMessage message;
  v1::GuardReport& report = *message.mutable_guard();
  report.set_job_id(job_id);
  report.set_guard(GuardName(firing.guard));
  report.set_action(WordOfAction(ActionFor(firing, settings)));
  report.set_epoch(firing.epoch);
  report.set_value(firing.value);
  report.set_limit(firing.limit);
  report.set_message(MessageOf(firing, settings));
  return message;
}

absl::Status ActionStatus(const Firing& firing, const GuardsSettings& settings) {
  absl::Status status =
      WithFault(absl::OutOfRangeError(MessageOf(firing, settings)), {.whose = Whose::kJob});
  switch (ActionFor(firing, settings)) {
    case GuardPolicy::kOff:
    case GuardPolicy::kWarn:
    case GuardPolicy::kSkip:
      return absl::OkStatus();
    case GuardPolicy::kRollback:
      return RollsBack(std::move(status), firing.good_epochs);
    case GuardPolicy::kPause:
      return PausesJob(std::move(status), "");
    case GuardPolicy::kFail:
      break;
  }
  return status;
}

}  // namespace imageddpo

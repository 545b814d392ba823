#include "trainer/algo/advantage_rule.h"

#include "absl/strings/str_cat.h"
#include "trainer/algo/global_advantages.h"
#include "trainer/algo/keyed_advantages.h"

namespace imageddpo {

absl::StatusOr<std::unique_ptr<AdvantageRule>> MakeAdvantageRule(const v1::AdvantageSpec& spec) {
  if (spec.mode() == "global") return std::make_unique<GlobalAdvantages>();
  if (spec.mode() == "per_key") return std::make_unique<KeyedAdvantages>(spec);
  return absl::InvalidArgumentError(
      absl::StrCat("`", spec.mode(), "` is no rule for advantages; there are global and per_key"));
}

}  // namespace imageddpo

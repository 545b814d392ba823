// Settings of TRL's DDPOConfig, which `imageddpo import-trl` makes a job of.
#include "common/config/import_trl.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  return {
      "num_epochs: 100\nsample_batch_size: 4\nsample_num_batches_per_epoch: 8\n"
      "train_batch_size: 2\ntrain_gradient_accumulation_steps: 4\nsample_num_steps: 50\n"
      "train_learning_rate: 3.0e-4\nper_prompt_stat_tracking: true\n",
      R"({"num_epochs": 2, "seed": 7, "mixed_precision": "bf16", "train_use_8bit_adam": true})"};
}

void Read(std::string_view input) {
  const auto imported = ImportTrl(input, "ddpo.yaml", /*processes=*/2);
  if (!imported.ok()) return;
  (void)imported->ToYaml("ddpo.yaml");
}

}  // namespace imageddpo::fuzz

// A checkpoint's MANIFEST.
#include "trainer/controller/artifacts/manifest.h"

#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  Manifest manifest{.epoch = 12};
  manifest.Add("pytorch_lora_weights.safetensors", "lora");
  manifest.Add("state.json", "{}");
  return {manifest.ToJson()};
}

void Read(std::string_view input) {
  const auto manifest = Manifest::FromJson(input);
  if (!manifest.ok()) return;
  (void)manifest->Check("state.json", "{}");
  (void)manifest->Check("state.json", "{ }");
  if (manifest->files.empty()) return;
  const std::string json = manifest->ToJson();
  const auto again = Manifest::FromJson(json);
  Require(again.ok() && again->ToJson() == json, "what was written is read as the same");
}

}  // namespace imageddpo::fuzz

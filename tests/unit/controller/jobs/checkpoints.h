#pragma once

#include <cstdint>
#include <string>

#include "imageddpo/v1/control.pb.h"

namespace imageddpo {

/// A checkpoint whose bytes tell its epoch.
inline v1::Checkpoint CheckpointOf(int64_t epoch, const std::string& variant = "") {
  v1::Checkpoint checkpoint;
  checkpoint.set_epoch(epoch);
  checkpoint.set_lora("lora of " + std::to_string(epoch) + variant + std::string(5000, 'l'));
  checkpoint.set_optimizer("optimizer of " + std::to_string(epoch) + std::string(9000, '\0'));
  checkpoint.set_state("{\"epochs_trained\": " + std::to_string(epoch) + "}\n");
  return checkpoint;
}

}  // namespace imageddpo

// The header of a record from a rollout rank: whatever it says, only what CheckHeader() lets pass
// is used.
#include <ATen/core/Tensor.h>

#include <limits>

#include "common/trajectory/record/trajectory_wire.h"
#include "imageddpo/v1/trajectory.pb.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {
namespace {

constexpr int64_t kBatch = 2, kSteps = 3;

ExpectedRecord Expected() { return {.job_id = "job", .batch_size = kBatch}; }

}  // namespace

std::vector<std::string> MadeSeeds() {
  std::vector<std::string> seeds;
  for (const bool has_gaps : {false, true}) {
    v1::TrajectoryHeader header;
    header.set_wire_version(kTrajectoryWireVersion);
    header.set_job_id("job");
    header.set_has_latents(true);
    for (const int64_t extent : {kBatch, kSteps, int64_t{4}, int64_t{8}, int64_t{8}}) {
      header.add_shape(extent);
    }
    for (int64_t i = 0; i < kBatch; ++i) {
      header.add_image_ids("image");
      header.add_prompts("a shoe");
      header.add_prompt_hashes(7);
      header.add_same_tokens(false);
      header.add_rewards(0.5);
      header.add_parts(1);
      for (int64_t k = 0; k < kSteps; ++k) {
        header.add_timesteps(900 - k);
        header.add_log_probs(-1);
      }
    }
    header.add_part_names("jpeg.value");
    if (has_gaps) {
      for (const int64_t latent : {0, 2, 3}) header.add_latent_of_step(latent);
    }
    seeds.push_back(header.SerializeAsString());
    header.set_shape(1,
                     std::numeric_limits<int64_t>::max());  // Its product with the batch overflows.
    seeds.push_back(header.SerializeAsString());
  }
  return seeds;
}

void Read(std::string_view input) {
  v1::TrajectoryHeader header;
  if (!header.ParseFromArray(input.data(), static_cast<int>(input.size()))) return;
  if (!CheckHeader(header, 1, Expected(), {}).ok()) return;
  const int64_t latents = NumLatents(header);
  Require(latents > header.shape(1) && latents <= 2 * header.shape(1),
          "steps have latents before and after them");
  const TrajectoryBatch batch = FromHeader(header);
  Require(batch.batch_size() == kBatch, "a record has as many samples as expected");
  Require(batch.timesteps_BK.size(1) == header.shape(1), "and as many steps as it says");
}

}  // namespace imageddpo::fuzz

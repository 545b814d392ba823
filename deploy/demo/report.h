#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace imageddpo::demo {

/// What the demo shows of one finished job: everything is read from the job's own files.
struct Summary {
  int64_t seed = 0;
  std::string topology;
  double reward_first = 0;  ///< Mean reward of epoch 0.
  double reward_last = 0;   ///< Mean over the last 10 epochs.
  /// Shares of the held-out images that the classifier recognises.
  double clean = 0, corrupted = 0, base = 0, trained = 0;
  int64_t fixed = 0;   ///< Recognised after the training but not before it, under the same noise.
  int64_t broken = 0;  ///< The other way round.
  double seconds = 0;  ///< From the job's start to its end.
  double images_per_second = 0;  ///< Median over the epochs.
  std::string lora;
  std::string picture;
};

/// Paths below the folder of the job (`jobs/<id>`).
struct JobFiles {
  std::string job_json;   ///< What `imageddpo get -o json` printed.
  std::string clean_dir;  ///< The held-out images, clean.
  std::string classifier;
};

/// @return INVALID_ARGUMENT or NOT_FOUND naming the file.
absl::StatusOr<Summary> Summarise(const JobFiles& files);

/// Writes a grid of corrupted input, base model, trained model and clean image to `path`; the
/// held-out images that the training has fixed come first.
absl::Status WritePicture(const JobFiles& files, const std::string& path);

std::string SummaryToJson(const Summary& summary);
std::string SummaryToTable(const Summary& summary);

}  // namespace imageddpo::demo

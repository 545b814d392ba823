#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// A mean with its standard error.
struct Estimate {
  double mean = 0;
  double error = 0;
};
/// Numbers of an evaluation by name: "reward" and every part of it.
using Estimates = std::map<std::string, Estimate>;

Estimates EstimatesOf(const v1::EvalEvent& eval);

/// The means over all samples of the number of the left evaluation − that of the right one, of the
/// same image under the same noise. Their standard errors are of the images' means over their
/// seeds, s / √n, as in an evaluation. Numbers that a sample does not have are left out.
/// @param left, right  eval/epoch-NNNNNN.jsonl of both. @param num_images  at least 1.
/// @return INVALID_ARGUMENT: the two are not of the same images, or no rows of an evaluation.
absl::StatusOr<Estimates> PairedDifferences(std::string_view left, std::string_view right,
                                            int64_t num_images);

/// An evaluation of a LoRA, and, where asked for, of the model without it.
struct EvalResult {
  v1::JobSpec spec;  ///< Which classifiers there are, and whether any reward counts.
  int64_t num_images = 0;
  Estimates with_lora;
  std::optional<Estimates> base;
  std::optional<Estimates> difference;  ///< With the LoRA − without it, paired.
};

/// A line for each number: accuracies first, then the reward (where any counts), then the parts.
std::string EvalTable(const EvalResult& result);
/// {"num_images": …, "measures": {NAME: {"mean": …, "stderr": …, "base_mean": …}}}.
std::string EvalJson(const EvalResult& result);

}  // namespace imageddpo

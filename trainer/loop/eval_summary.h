#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "imageddpo/v1/control.pb.h"
#include "imageddpo/v1/trajectory.pb.h"

namespace imageddpo {

/// Means and standard errors of an evaluation, of N images under S seeds each.
class EvalSummary {
 public:
  /// @param num_images  N, at least 1.
  explicit EvalSummary(int64_t num_images);

  /// @param batch  well-formed; its samples follow those that were added before.
  void Add(const v1::EvalBatch& batch);

  /// The rows of eval/epoch-NNNNNN.jsonl, one for each sample. `seed` counts from 0 and is omitted
  /// if there is only one seed.
  /// @param num_seeds  S.
  static std::string Rows(const v1::EvalBatch& batch, int64_t num_images, int64_t num_seeds);

  /// Sets num_images, the means over all samples, and their standard errors: of the images' means
  /// over their seeds, s / √n with s² = Σ (mean_i − mean of the n means)² / (n − 1), where n is the
  /// number of images with a number; 0 for n < 2. Samples without a number (NaN) are left out.
  void Report(v1::EvalReport* report) const;

 private:
  /// One value per sample, accumulated.
  struct Series {
    double sum = 0;
    int64_t count = 0;
    std::vector<double> image_sums;
    std::vector<int64_t> image_counts;

    void Add(int64_t image, double number);
    double Mean() const { return sum / static_cast<double>(count); }
    double StandardError() const;
  };
  Series Empty() const;

  int64_t num_images_;
  int64_t num_samples_ = 0;
  Series reward_;
  std::map<std::string, Series> parts_;
};

}  // namespace imageddpo

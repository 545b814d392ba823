#include "rollout/reward/score_probe.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

constexpr int64_t kPictures = 3;  // Pictures that are scored together.

// Shares of a column's largest value.
constexpr double kOtherBatch = 1e-2, kOtherBatchIn16Bits = 5e-2;
constexpr double kSameBatchShare = 1e-2;  // Of the two above.

/// [count,3,height,width] in [0,1]: coloured noise on a gradient, a function of `seed` alone.
at::Tensor Pictures(int64_t count, int width, int height, int64_t seed) {
  constexpr double kGoldenRatio = 0.61803398874989485;
  at::Tensor pictures = at::empty({count, 3, height, width}, at::kFloat);
  auto* value = pictures.mutable_data_ptr<float>();
  int64_t number = seed * 7919;
  for (int64_t i = 0; i < count * 3; ++i) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const double noise = std::fmod(static_cast<double>(++number) * kGoldenRatio, 1.0);
        const double slope = (i % 2 == 0 ? x / (width + 0.0) : y / (height + 0.0));
        *value++ = static_cast<float>(0.5 * noise + 0.5 * slope);
      }
    }
  }
  return pictures;
}

std::shared_ptr<RewardBatch> MakeProbe(const Dataset& dataset, int width, int height) {
  auto batch = std::make_shared<RewardBatch>();
  batch->generated_BCHW = Pictures(kPictures, width, height, 1);
  batch->inputs_BCHW = Pictures(kPictures, width, height, 2);
  batch->targets_BCHW = Pictures(kPictures, width, height, 3);
  for (int64_t i = 0; i < kPictures; ++i) {
    batch->examples.push_back(dataset.at(i % dataset.size()));
    batch->prompts.push_back(batch->examples.back().text);
  }
  return batch;
}

std::shared_ptr<RewardBatch> FirstOf(const RewardBatch& batch) {
  auto first = std::make_shared<RewardBatch>();
  first->generated_BCHW = batch.generated_BCHW.narrow(0, 0, 1);
  first->inputs_BCHW = batch.inputs_BCHW.narrow(0, 0, 1);
  first->targets_BCHW = batch.targets_BCHW.narrow(0, 0, 1);
  first->examples = {batch.examples.front()};
  first->prompts = {batch.prompts.front()};
  return first;
}

/// The columns of scores as doubles on the CPU.
class Columns {
 public:
  explicit Columns(const ProbeScores& scores)
      : values_NP_(scores.values_NP.to(at::kCPU, at::kDouble).contiguous()) {}
  int64_t num_rows() const { return values_NP_.size(0); }
  int64_t num_columns() const { return values_NP_.size(1); }
  double At(int64_t row, int64_t column) const {
    return values_NP_.const_data_ptr<double>()[row * num_columns() + column];
  }
  double Largest(int64_t column) const {
    double largest = 0;
    for (int64_t row = 0; row < num_rows(); ++row) {
      largest = std::max(largest, std::abs(At(row, column)));
    }
    return largest;
  }

 private:
  at::Tensor values_NP_;
};

/// Where the rows of `found` are not the first ones of `expected`: "logit 3 is 1 and 2".
std::string Difference(const ProbeScores& scores, const Columns& found, const Columns& expected,
                       double share) {
  for (int64_t column = 0; column < expected.num_columns(); ++column) {
    for (int64_t row = 0; row < found.num_rows(); ++row) {
      const double a = found.At(row, column), b = expected.At(row, column);
      if (std::isnan(a) && std::isnan(b)) continue;
      if (a == b || std::abs(a - b) <= share * expected.Largest(column)) continue;
      return absl::StrFormat("%s is %.9g and %.9g", scores.names[static_cast<size_t>(column)], a,
                             b);
    }
  }
  return "";
}

}  // namespace

absl::Status ProbeScoring(const std::string& path, const Dataset& dataset, int width, int height,
                          const ProbeFunction& score,
                          const std::function<void(const std::string&)>& warn) {
  const auto refuse = [&path](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("'", path, "' ", what));
  };
  const std::shared_ptr<RewardBatch> batch = MakeProbe(dataset, width, height);
  IMAGEDDPO_ASSIGN_OR_RETURN(const ProbeScores of_one, score(FirstOf(*batch)));
  const absl::StatusOr<ProbeScores> together = score(batch);
  if (!together.ok()) {
    return refuse(absl::StrCat("scores one image, but not ", kPictures,
                               " at once; it has to take any number: use torch.jit.script, or "
                               "torch.jit.trace with several images and without Python numbers "
                               "made of shapes: ",
                               together.status().message()));
  }
  const Columns alone(of_one), first(*together);
  for (int64_t column = 0; column < first.num_columns(); ++column) {
    if (together->must_be_finite >= 0 && column != together->must_be_finite) continue;
    for (int64_t row = 0; row < kPictures; ++row) {
      if (std::isfinite(first.At(row, column))) continue;
      return refuse(absl::StrCat(
          "gives a made-up picture of ", width, "x", height, " pixels the score ",
          first.At(row, column), " (", together->names[static_cast<size_t>(column)],
          "); every image needs a finite one: look for divisions by 0 and logarithms of 0"));
    }
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(const ProbeScores repeated, score(batch));
  const at::ScalarType type = together->values_NP.scalar_type();
  const double share =
      type == at::kHalf || type == at::kBFloat16 ? kOtherBatchIn16Bits : kOtherBatch;
  constexpr char kRemedy[] =
      "; it was exported in training mode, where dropout or batch normalisation change scores: "
      "call model.eval() before torch.jit.trace or torch.jit.script and export it again";
  const Columns second(repeated);
  if (const std::string what = Difference(*together, second, first, share * kSameBatchShare);
      !what.empty()) {
    return refuse(
        absl::StrCat("scores the same pictures differently the second time (", what, ")", kRemedy));
  }
  if (const std::string what = Difference(*together, second, first, 0); !what.empty()) {
    warn(absl::StrCat("'", path, "' scores the same pictures with other rounding the second time (",
                      what, "): the same job does not give the same bits twice"));
  }
  if (const std::string what = Difference(*together, alone, first, share); !what.empty()) {
    return refuse(
        absl::StrCat("scores a picture differently alone and beside others (", what, ")", kRemedy));
  }
  return absl::OkStatus();
}

}  // namespace imageddpo

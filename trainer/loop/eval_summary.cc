#include "trainer/loop/eval_summary.h"

#include <cmath>

#include "nlohmann/json.hpp"

namespace imageddpo {

EvalSummary::EvalSummary(int64_t num_images) : num_images_(num_images), reward_(Empty()) {}

EvalSummary::Series EvalSummary::Empty() const {
  const auto size = static_cast<size_t>(num_images_);
  return {.image_sums = std::vector<double>(size), .image_counts = std::vector<int64_t>(size)};
}

void EvalSummary::Series::Add(int64_t image, double number) {
  if (std::isnan(number)) return;
  sum += number;
  ++count;
  image_sums[static_cast<size_t>(image)] += number;
  ++image_counts[static_cast<size_t>(image)];
}

double EvalSummary::Series::StandardError() const {
  std::vector<double> means;
  for (size_t i = 0; i < image_sums.size(); ++i) {
    if (image_counts[i] > 0) means.push_back(image_sums[i] / static_cast<double>(image_counts[i]));
  }
  if (means.size() < 2) return 0;
  const auto n = static_cast<double>(means.size());
  double mean = 0, squares = 0;
  for (const double value : means) mean += value / n;
  for (const double value : means) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (n - 1) / n);
}

void EvalSummary::Add(const v1::EvalBatch& batch) {
  for (int i = 0; i < batch.rewards_size(); ++i, ++num_samples_) {
    const int64_t image = num_samples_ % num_images_;
    reward_.Add(image, batch.rewards(i));
    for (int p = 0; p < batch.part_names_size(); ++p) {
      Series& part = parts_.try_emplace(batch.part_names(p), Empty()).first->second;
      part.Add(image, batch.parts(i * batch.part_names_size() + p));
    }
  }
}

std::string EvalSummary::Rows(const v1::EvalBatch& batch, int64_t num_images, int64_t num_seeds) {
  std::string rows;
  for (int i = 0; i < batch.rewards_size(); ++i) {
    nlohmann::ordered_json row = {{"id", batch.image_ids(i)}, {"reward", batch.rewards(i)}};
    if (num_seeds > 1) row["seed"] = (batch.first_sample() + i) / num_images;
    for (int p = 0; p < batch.part_names_size(); ++p) {
      row[batch.part_names(p)] = batch.parts(i * batch.part_names_size() + p);
    }
    rows += row.dump() + '\n';
  }
  return rows;
}

void EvalSummary::Report(v1::EvalReport* report) const {
  report->set_num_images(num_images_);
  report->set_reward_mean(reward_.Mean());
  report->set_reward_stderr(reward_.StandardError());
  for (const auto& [name, part] : parts_) {
    (*report->mutable_parts_mean())[name] = part.Mean();
    (*report->mutable_parts_stderr())[name] = part.StandardError();
  }
}

}  // namespace imageddpo

#include "deploy/imageddpo/text/eval_text.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/config/reward_types.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

absl::StatusOr<std::vector<nlohmann::json>> EvalRows(std::string_view text) {
  std::vector<nlohmann::json> rows;
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n', absl::SkipEmpty())) {
    nlohmann::json row = nlohmann::json::parse(line.begin(), line.end(), nullptr,
                                               /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("id")) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", rows.size() + 1, " is no row of an evaluation"));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Differences of one number, of every sample that has it.
class DifferenceSeries {
 public:
  explicit DifferenceSeries(size_t num_images) : sums_(num_images), counts_(num_images) {}

  void Add(size_t image, double difference) {
    sum_ += difference;
    ++count_;
    sums_[image] += difference;
    ++counts_[image];
  }
  Estimate ToEstimate() const {
    Estimate estimate{.mean = sum_ / count_};
    std::vector<double> means;
    for (size_t i = 0; i < sums_.size(); ++i) {
      if (counts_[i] > 0) means.push_back(sums_[i] / counts_[i]);
    }
    const auto n = static_cast<double>(means.size());
    if (n < 2) return estimate;
    double mean = 0, squares = 0;
    for (const double value : means) mean += value / n;
    for (const double value : means) squares += (value - mean) * (value - mean);
    estimate.error = std::sqrt(squares / (n - 1) / n);
    return estimate;
  }

 private:
  double sum_ = 0, count_ = 0;
  std::vector<double> sums_, counts_;
};

/// Names of `result` in the order of the table, with what a reader calls them.
std::vector<std::pair<std::string, std::string>> EvalLabels(const EvalResult& result) {
  std::vector<std::pair<std::string, std::string>> labels;
  std::set<std::string> done = {"reward"};
  bool is_any_rewarded = false;
  const std::vector<std::string> names = RewardNames(result.spec);
  for (size_t i = 0; i < names.size(); ++i) {
    const v1::RewardSpec& reward = result.spec.rewards(static_cast<int>(i));
    is_any_rewarded = is_any_rewarded || (!reward.held_out() && reward.weight() != 0);
    const std::string correct = absl::StrCat(names[i], ".correct");
    if (reward.type() != NameOf(RewardType::kClassifier) || !result.with_lora.contains(correct)) {
      continue;
    }
    labels.emplace_back(correct, absl::StrCat("accuracy (", correct, ")"));
    done.insert(correct);
  }
  if (is_any_rewarded) labels.emplace_back("reward", "reward");
  for (const auto& [name, estimate] : result.with_lora) {
    if (!done.contains(name)) labels.emplace_back(name, name);
  }
  return labels;
}

/// The estimate's two cells; empty where there is none.
void AddCells(const Estimates& estimates, const std::string& name, std::vector<std::string>* row) {
  const auto found = estimates.find(name);
  const bool is_there = found != estimates.end();
  row->push_back(is_there ? FormatNumber(found->second.mean) : "");
  row->push_back(is_there ? FormatNumber(found->second.error, 3) : "");
}

}  // namespace

Estimates EstimatesOf(const v1::EvalEvent& eval) {
  Estimates estimates = {{"reward", {.mean = eval.reward_mean(), .error = eval.reward_stderr()}}};
  for (const auto& [name, mean] : eval.parts_mean()) {
    const auto error = eval.parts_stderr().find(name);
    estimates[name] = {.mean = mean,
                       .error = error == eval.parts_stderr().end() ? 0 : error->second};
  }
  return estimates;
}

absl::StatusOr<Estimates> PairedDifferences(std::string_view left, std::string_view right,
                                            int64_t num_images) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<nlohmann::json> lefts, EvalRows(left));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<nlohmann::json> rights, EvalRows(right));
  bool is_same = lefts.size() == rights.size();
  for (size_t i = 0; is_same && i < lefts.size(); ++i) is_same = lefts[i]["id"] == rights[i]["id"];
  if (!is_same) {
    return absl::InvalidArgumentError("the two evaluations are not of the same images");
  }
  const auto images = static_cast<size_t>(num_images);
  std::map<std::string, DifferenceSeries> series;
  for (size_t i = 0; i < lefts.size(); ++i) {
    for (const auto& [name, number] : lefts[i].items()) {
      const auto other = rights[i].find(name);
      if (name == "seed" || !number.is_number()) continue;
      if (other == rights[i].end() || !other->is_number()) continue;
      series.try_emplace(name, images)
          .first->second.Add(i % images, number.get<double>() - other->get<double>());
    }
  }
  Estimates differences;
  for (const auto& [name, one] : series) differences[name] = one.ToEstimate();
  return differences;
}

std::string EvalTable(const EvalResult& result) {
  std::vector<std::string> headings = {absl::StrCat(result.num_images, " IMAGES"), "WITH LORA#",
                                       "±#"};
  if (result.base) headings.insert(headings.end(), {"BASE MODEL#", "±#"});
  if (result.difference) headings.insert(headings.end(), {"DIFFERENCE#", "±#"});
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, label] : EvalLabels(result)) {
    std::vector<std::string> row = {Printable(label)};
    AddCells(result.with_lora, name, &row);
    if (result.base) AddCells(*result.base, name, &row);
    if (result.difference) AddCells(*result.difference, name, &row);
    rows.push_back(std::move(row));
  }
  return FormatTable(headings, rows);
}

std::string EvalJson(const EvalResult& result) {
  nlohmann::ordered_json measures = nlohmann::ordered_json::object();
  for (const auto& [name, label] : EvalLabels(result)) {
    nlohmann::ordered_json& entry = measures[name];
    const auto add = [&entry, &name](const Estimates& estimates, const std::string& prefix) {
      const auto found = estimates.find(name);
      if (found == estimates.end()) return;
      entry[prefix + "mean"] = found->second.mean;
      entry[prefix + "stderr"] = found->second.error;
    };
    add(result.with_lora, "");
    if (result.base) add(*result.base, "base_");
    if (result.difference) add(*result.difference, "difference_");
  }
  const nlohmann::ordered_json all = {{"num_images", result.num_images}, {"measures", measures}};
  return PrintableJson(all.dump(2)) + "\n";
}

}  // namespace imageddpo

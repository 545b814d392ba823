#include "deploy/imageddpo/text/comparison.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/base/text.h"
#include "common/config/compare/job_difference.h"
#include "common/learning/learning.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

using nlohmann::ordered_json;

constexpr size_t kFinalEpochs = 10;
constexpr char kRewardName[] = "reward";

/// A value of one job, with a standard error of its own.
struct Value {
  double mean;
  double standard_error = 0;
};

OverSeeds Summarise(const std::vector<Value>& values) {
  OverSeeds result{.num_values = static_cast<int>(values.size())};
  if (values.empty()) return result;
  const auto count = static_cast<double>(values.size());
  for (const Value& value : values) result.mean += value.mean / count;
  if (values.size() == 1) {
    result.standard_error = values.front().standard_error;
    return result;
  }
  double squares = 0;
  for (const Value& value : values) squares += std::pow(value.mean - result.mean, 2);
  result.standard_error = std::sqrt(squares / (count - 1) / count);
  return result;
}

bool SaysWhichRun(const std::string& setting) { return setting == "seed" || setting == "name"; }

/// The settings in which the jobs differ, for each of them.
std::vector<std::map<std::string, std::string>> DifferencesOf(
    const std::vector<ComparedJob>& jobs) {
  std::map<std::string, std::string> of_first;
  std::vector<std::map<std::string, std::string>> settings(jobs.size());
  for (size_t i = 1; i < jobs.size(); ++i) {
    for (const SettingDifference& found :
         DifferentSettings(jobs[0].job.spec(), jobs[i].job.spec())) {
      if (SaysWhichRun(found.setting)) continue;
      of_first[found.setting] = found.before;
      settings[i][found.setting] = found.after;
    }
  }
  for (auto& of_job : settings) of_job.insert(of_first.begin(), of_first.end());
  return settings;
}

struct Numbers {
  std::optional<Value> final_reward, best_reward;
  std::map<std::string, Value> evaluation;
};

Numbers NumbersOf(const ComparedJob& job) {
  Numbers numbers;
  const JobHistory history = HistoryOf(job.job, job.events);
  std::vector<double> curve = RewardCurve(history);
  std::erase_if(curve, [](double value) { return !std::isfinite(value); });
  if (!curve.empty()) {
    const auto count = static_cast<std::ptrdiff_t>(std::min(kFinalEpochs, curve.size()));
    numbers.final_reward =
        Value{std::accumulate(curve.end() - count, curve.end(), 0.0) / static_cast<double>(count)};
    numbers.best_reward = Value{*std::max_element(curve.begin(), curve.end())};
  }
  if (!history.evaluations.empty()) {
    const v1::EvalEvent& newest = history.evaluations.back();
    numbers.evaluation[kRewardName] = {newest.reward_mean(), newest.reward_stderr()};
    for (const auto& [part, mean] : newest.parts_mean()) {
      const auto error = newest.parts_stderr().find(part);
      numbers.evaluation[part] = {mean, error == newest.parts_stderr().end() ? 0 : error->second};
    }
  }
  return numbers;
}

ComparedGroup GroupOf(const std::vector<const ComparedJob*>& jobs,
                      std::map<std::string, std::string> settings) {
  ComparedGroup group;
  group.settings = std::move(settings);
  group.min_epochs = jobs.front()->job.progress().epoch();
  std::vector<Value> finals, bests;
  std::map<std::string, std::vector<Value>> evaluation;
  for (const ComparedJob* job : jobs) {
    group.job_ids.push_back(job->job.id());
    group.min_epochs = std::min(group.min_epochs, job->job.progress().epoch());
    group.max_epochs = std::max(group.max_epochs, job->job.progress().epoch());
    const Numbers numbers = NumbersOf(*job);
    if (numbers.final_reward.has_value()) finals.push_back(*numbers.final_reward);
    if (numbers.best_reward.has_value()) bests.push_back(*numbers.best_reward);
    for (const auto& [name, value] : numbers.evaluation) evaluation[name].push_back(value);
  }
  group.final_reward = Summarise(finals);
  group.best_reward = Summarise(bests);
  for (const auto& [name, values] : evaluation) group.evaluation[name] = Summarise(values);
  return group;
}

std::string TextOf(const OverSeeds& number) {
  if (number.num_values == 0) return "-";
  std::string text = FormatNumber(number.mean);
  if (number.standard_error > 0) {
    absl::StrAppend(&text, " ± ", FormatNumber(number.standard_error, 2));
  }
  return text;
}

std::string EpochsOf(const ComparedGroup& group) {
  return group.min_epochs == group.max_epochs
             ? absl::StrCat(group.max_epochs)
             : absl::StrCat(group.min_epochs, "-", group.max_epochs);
}

/// The names of all evaluations, the reward first.
std::vector<std::string> EvaluationsOf(const std::vector<ComparedGroup>& groups) {
  std::set<std::string> names;
  for (const ComparedGroup& group : groups) {
    for (const auto& [name, value] : group.evaluation) names.insert(name);
  }
  std::vector<std::string> ordered;
  if (names.erase(kRewardName) > 0) ordered.emplace_back(kRewardName);
  ordered.insert(ordered.end(), names.begin(), names.end());
  return ordered;
}

struct Table {
  std::vector<std::string> headings;
  std::vector<std::vector<std::string>> rows;
};

Table TableOf(const std::vector<ComparedGroup>& groups) {
  Table table;
  if (groups.empty()) return table;
  const std::vector<std::string> evaluations = EvaluationsOf(groups);
  for (const auto& [setting, value] : groups.front().settings) table.headings.push_back(setting);
  for (const char* heading : {"JOBS", "EPOCHS", "FINAL REWARD", "BEST REWARD"}) {
    table.headings.emplace_back(heading);
  }
  for (const std::string& name : evaluations) {
    table.headings.push_back(absl::StrCat("EVAL ", Printable(name)));
  }
  for (const ComparedGroup& group : groups) {
    std::vector<std::string>& row = table.rows.emplace_back();
    for (const auto& [setting, value] : group.settings) {
      row.push_back(value.empty() ? "-" : OneLine(value));
    }
    row.push_back(Printable(absl::StrJoin(group.job_ids, " ")));
    row.push_back(EpochsOf(group));
    row.push_back(TextOf(group.final_reward));
    row.push_back(TextOf(group.best_reward));
    for (const std::string& name : evaluations) {
      const auto found = group.evaluation.find(name);
      row.push_back(found == group.evaluation.end() ? "-" : TextOf(found->second));
    }
  }
  return table;
}

ordered_json JsonOf(const OverSeeds& number) {
  if (number.num_values == 0) return nullptr;
  return {{"mean", number.mean},
          {"standard_error", number.standard_error},
          {"num_jobs", number.num_values}};
}

ordered_json JsonOf(const std::vector<ComparedGroup>& groups) {
  ordered_json shown = ordered_json::array();
  for (const ComparedGroup& group : groups) {
    ordered_json evaluation = ordered_json::object();
    for (const auto& [name, value] : group.evaluation) evaluation[name] = JsonOf(value);
    shown.push_back({{"settings", ordered_json(group.settings)},
                     {"jobs", group.job_ids},
                     {"min_epochs", group.min_epochs},
                     {"max_epochs", group.max_epochs},
                     {"final_reward", JsonOf(group.final_reward)},
                     {"best_reward", JsonOf(group.best_reward)},
                     {"evaluation", std::move(evaluation)}});
  }
  return {{"groups", std::move(shown)}};
}

/// YAML in blocks; keys and values as JSON has them, which YAML reads.
void AppendYaml(const ordered_json& value, int indent, std::string* text) {
  const std::string blanks(static_cast<size_t>(indent), ' ');
  if (!value.is_structured() || value.empty()) {
    absl::StrAppend(text, " ", value.dump(), "\n");
    return;
  }
  absl::StrAppend(text, "\n");
  if (value.is_array()) {
    for (const ordered_json& item : value) {
      absl::StrAppend(text, blanks, "-");
      AppendYaml(item, indent + 2, text);
    }
    return;
  }
  for (const auto& [key, item] : value.items()) {
    absl::StrAppend(text, blanks, ordered_json(key).dump(), ":");
    AppendYaml(item, indent + 2, text);
  }
}

}  // namespace

std::vector<ComparedGroup> CompareJobs(const std::vector<ComparedJob>& jobs) {
  const std::vector<std::map<std::string, std::string>> settings = DifferencesOf(jobs);
  std::vector<std::map<std::string, std::string>> order;
  std::map<std::map<std::string, std::string>, std::vector<const ComparedJob*>> members;
  for (size_t i = 0; i < jobs.size(); ++i) {
    std::vector<const ComparedJob*>& group = members[settings[i]];
    if (group.empty()) order.push_back(settings[i]);
    group.push_back(&jobs[i]);
  }
  std::vector<ComparedGroup> groups;
  groups.reserve(order.size());
  for (const auto& key : order) groups.push_back(GroupOf(members[key], key));
  return groups;
}

std::string ComparisonTable(const std::vector<ComparedGroup>& groups) {
  const Table table = TableOf(groups);
  return FormatTable(table.headings, table.rows);
}

std::string ComparisonMarkdown(const std::vector<ComparedGroup>& groups) {
  const Table table = TableOf(groups);
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const std::string& cell : cells) {
      absl::StrAppend(&text, " ", absl::StrReplaceAll(cell, {{"|", "\\|"}}), " |");
    }
    return text + "\n";
  };
  std::string text = line(table.headings);
  text += line(std::vector<std::string>(table.headings.size(), "---"));
  for (const std::vector<std::string>& row : table.rows) text += line(row);
  return text;
}

std::string ComparisonJson(const std::vector<ComparedGroup>& groups) {
  return PrintableJson(JsonOf(groups).dump(2)) + "\n";
}

std::string ComparisonYaml(const std::vector<ComparedGroup>& groups) {
  std::string text;
  AppendYaml(JsonOf(groups), 0, &text);
  return PrintableJson(text.substr(1));  // Without the newline before the first key.
}

}  // namespace imageddpo

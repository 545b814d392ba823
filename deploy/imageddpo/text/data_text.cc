#include "deploy/imageddpo/text/data_text.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/text.h"
#include "deploy/imageddpo/text/format.h"

namespace imageddpo {
namespace {

constexpr size_t kMostSizes = 8;
constexpr size_t kMostClasses = 6;

struct Labels {
  int64_t count = 0, first = 0, last = 0;
  std::set<int64_t> distinct;
};

Labels LabelsOf(const ExampleTable& examples) {
  Labels labels;
  for (int64_t i = 0; i < examples.size(); ++i) {
    if (const auto label = examples.label(i)) {
      ++labels.count;
      labels.distinct.insert(*label);
    }
  }
  if (!labels.distinct.empty()) {
    labels.first = *labels.distinct.begin();
    labels.last = *labels.distinct.rbegin();
  }
  return labels;
}

std::string LabelsText(const ExampleTable& examples) {
  const Labels labels = LabelsOf(examples);
  if (labels.count == 0) return "none";
  std::string text = absl::StrCat(labels.count, " images, ", labels.distinct.size(),
                                  " classes from ", labels.first, " to ", labels.last);
  std::vector<std::string> names;
  for (size_t label = 0; label < examples.class_names().size(); ++label) {
    const std::string& name = examples.class_names()[label];
    if (!name.empty()) names.push_back(absl::StrCat(label, " ", OneLine(name)));
  }
  if (names.empty()) return text;
  const bool is_cut = names.size() > kMostClasses;
  if (is_cut) names.resize(kMostClasses);
  return absl::StrCat(text, ": ", absl::StrJoin(names, ", "), is_cut ? ", …" : "");
}

struct Texts {
  int64_t count = 0;
  std::set<std::string_view> distinct;
};

Texts TextsOf(const ExampleTable& examples) {
  Texts texts;
  for (int64_t i = 0; i < examples.size(); ++i) {
    const std::string_view text = examples.text(i);
    if (text.empty()) continue;
    ++texts.count;
    texts.distinct.insert(text);
  }
  return texts;
}

int64_t CountTargets(const ExampleTable& examples) {
  int64_t count = 0;
  for (int64_t i = 0; i < examples.size(); ++i)
    count += examples.target_file_name(i).empty() ? 0 : 1;
  return count;
}

}  // namespace

void DataSummary::Add(const std::string& format, int width, int height) {
  ++formats_[format];
  ++sizes_[{width, height}];
  if (width_ == 0) return;
  if (width < width_ || height < height_) ++enlarged_;
  if (int64_t{width} * height_ != int64_t{height} * width_) ++cropped_;
}

std::string DataSummary::ToText(const Listing& listing,
                                const std::vector<std::string>& faults) const {
  const ExampleTable& examples = listing.examples;
  std::vector<std::vector<std::string>> rows;
  const auto add = [&rows](const std::string& what, const std::string& value) {
    rows.push_back({what, value});
  };
  const auto missing = static_cast<int64_t>(listing.missing.size());
  add("images", absl::StrCat(examples.size() + missing));
  add("cannot be read", absl::StrCat(faults.size()));
  std::vector<std::string> formats;
  for (const auto& [format, count] : formats_) formats.push_back(absl::StrCat(count, " ", format));
  add("formats", absl::StrJoin(formats, ", "));
  const Texts texts = TextsOf(examples);
  add("prompts", texts.count == 0 ? "none"
                                  : absl::StrCat(texts.count, " images, ", texts.distinct.size(),
                                                 " different ones"));
  add("labels", LabelsText(examples));
  if (const int64_t targets = CountTargets(examples); targets > 0) {
    add("targets", absl::StrCat(targets, " images"));
  }
  if (width_ > 0) {
    add(absl::StrCat("for ", width_, "×", height_),
        absl::StrCat(enlarged_, " are smaller and will be enlarged, ", cropped_,
                     " have another shape and will be cropped"));
  }
  std::vector<std::pair<int64_t, std::pair<int, int>>> sizes;
  for (const auto& [size, count] : sizes_) sizes.emplace_back(-count, size);
  std::sort(sizes.begin(), sizes.end());
  int64_t others = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t count = -sizes[i].first;
    if (i >= kMostSizes) {
      others += count;
      continue;
    }
    add(absl::StrCat(sizes[i].second.first, "×", sizes[i].second.second),
        absl::StrCat(
            count, "  ",
            ProgressBar(static_cast<double>(count) / static_cast<double>(-sizes.front().first),
                        20)));
  }
  if (others > 0) {
    add("other sizes", absl::StrCat(others, ", in ", sizes.size() - kMostSizes, " sizes"));
  }
  return FormatTable({"set", OneLine(ValidText(listing.path))}, rows);
}

std::string DataSummary::ToJson(const Listing& listing,
                                const std::vector<std::string>& faults) const {
  const ExampleTable& examples = listing.examples;
  const Labels labels = LabelsOf(examples);
  const Texts texts = TextsOf(examples);
  nlohmann::ordered_json sizes = nlohmann::ordered_json::array();
  for (const auto& [size, count] : sizes_) {
    sizes.push_back({{"width", size.first}, {"height", size.second}, {"images", count}});
  }
  std::vector<std::string> valid;
  valid.reserve(faults.size());
  for (const std::string& fault : faults) valid.push_back(ValidMessage(fault));
  nlohmann::ordered_json json = {
      {"path", ValidText(listing.path)},
      {"images", examples.size() + static_cast<int64_t>(listing.missing.size())},
      {"bad", valid},
      {"formats", formats_},
      {"sizes", std::move(sizes)},
      {"prompts", texts.count},
      {"labels", labels.count},
      {"classes", labels.distinct.size()},
      {"class_names", examples.class_names()},
      {"targets", CountTargets(examples)},
      {"warnings", listing.warnings}};
  if (width_ > 0) {
    json["enlarged"] = enlarged_;
    json["cropped"] = cropped_;
  }
  return PrintableJson(json.dump(2)) + "\n";
}

}  // namespace imageddpo

#include "rollout/data/listing/example.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/text.h"

namespace imageddpo {

std::string ExampleTable::Shortened(const std::string& path) const {
  const size_t size = folder_.size();
  const bool is_below = !folder_.empty() && path.size() > size && path[size] == '/' &&
                        absl::StartsWith(path, folder_);
  return is_below ? path.substr(size + 1) : path;
}

std::string ExampleTable::Whole(std::string_view path) const {
  if (path.empty() || path.front() == '/') return std::string(path);
  std::string whole = folder_;
  whole += '/';
  whole += path;
  return whole;
}

void ExampleTable::Add(const Example& example) {
  const std::string file = Shortened(example.file_name);
  const std::string parts[kNumFields] = {
      example.row < 0 && example.id == ValidText(file) ? "" : example.id, file, example.text,
      Shortened(example.target_file_name), example.metadata.empty() ? "" : example.metadata.dump()};
  Record record{.begin = texts_.size(), .row = static_cast<int32_t>(example.row)};
  for (int field = 0; field < kNumFields; ++field) {
    record.sizes[field] = static_cast<uint32_t>(parts[field].size());
    texts_ += parts[field];
  }
  record.has_label = example.label.has_value();
  record.label = example.label.value_or(0);
  records_.push_back(record);
}

std::string_view ExampleTable::Part(int64_t i, Field field) const {
  const Record& record = records_[static_cast<size_t>(i)];
  uint64_t begin = record.begin;
  for (int before = 0; before < field; ++before) begin += record.sizes[before];
  return std::string_view(texts_).substr(begin, record.sizes[field]);
}

std::string ExampleTable::id(int64_t i) const {
  const std::string_view id = Part(i, kId);
  return id.empty() ? ValidText(Part(i, kFile)) : std::string(id);
}

std::string ExampleTable::file_name(int64_t i) const { return Whole(Part(i, kFile)); }

std::string ExampleTable::target_file_name(int64_t i) const { return Whole(Part(i, kTarget)); }

std::optional<int64_t> ExampleTable::label(int64_t i) const {
  const Record& record = records_[static_cast<size_t>(i)];
  return record.has_label ? std::optional<int64_t>(record.label) : std::nullopt;
}

Example ExampleTable::at(int64_t i) const {
  if (i < 0 || i >= size()) {
    throw std::out_of_range(absl::StrCat("example ", i, " of ", size(), " examples"));
  }
  Example example{.id = id(i),
                  .file_name = file_name(i),
                  .row = row(i),
                  .text = std::string(text(i)),
                  .label = label(i),
                  .target_file_name = target_file_name(i)};
  if (const std::string_view json = metadata_json(i); !json.empty()) {
    example.metadata = nlohmann::json::parse(json);
  }
  if (example.label && *example.label >= 0 &&
      *example.label < static_cast<int64_t>(class_names_.size())) {
    example.metadata.emplace("class", class_names_[static_cast<size_t>(*example.label)]);
  }
  return example;
}

void ExampleTable::SetLabel(int64_t i, int64_t label) {
  records_[static_cast<size_t>(i)].has_label = true;
  records_[static_cast<size_t>(i)].label = label;
}

void ExampleTable::Remove(const std::vector<int64_t>& indices) {
  size_t kept = 0;
  auto next = indices.begin();
  for (size_t i = 0; i < records_.size(); ++i) {
    if (next != indices.end() && *next == static_cast<int64_t>(i)) {
      ++next;
    } else {
      records_[kept++] = records_[i];
    }
  }
  records_.resize(kept);
}

}  // namespace imageddpo

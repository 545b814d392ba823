#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nlohmann/json.hpp"

namespace imageddpo {

/// One input of a job: an image with what is known of it.
struct Example {
  std::string id;         ///< Unique in the set and stable: statistics are kept by it. Valid UTF-8.
  std::string file_name;  ///< Absolute path, links resolved: of the image, or of a .npy with many.
  int64_t row = -1;       ///< Of the image in a .npy; -1: file_name is an image.
  std::string text;       ///< The prompt; may be empty.
  std::optional<int64_t> label;  ///< Class index, for rewards that need one.
  std::string target_file_name;  ///< Absolute path of what the image should become; empty: none.
  /// Everything else that is known, an object: the other keys of its line, `class` where labels
  /// have names, `corruption` and `severity` of an ImageNet-C layout.
  nlohmann::json metadata = nlohmann::json::object();
};

/// The examples of a set in their order, in about 60 bytes and their texts each: paths without the
/// set's folder, ids only where they differ from the path, metadata as JSON text.
class ExampleTable {
 public:
  ExampleTable() = default;
  /// @param folder  of the set, absolute.
  explicit ExampleTable(std::string folder) : folder_(std::move(folder)) {}

  void Add(const Example& example);
  const std::string& folder() const { return folder_; }
  int64_t size() const { return static_cast<int64_t>(records_.size()); }

  /// What was added, with `class` in its metadata. @throws std::out_of_range
  Example at(int64_t i) const;
  // Parts of it; i is not checked.
  std::string id(int64_t i) const;
  std::string file_name(int64_t i) const;
  int64_t row(int64_t i) const { return records_[static_cast<size_t>(i)].row; }
  std::string_view text(int64_t i) const { return Part(i, kText); }
  std::optional<int64_t> label(int64_t i) const;
  std::string target_file_name(int64_t i) const;
  std::string_view metadata_json(int64_t i) const { return Part(i, kMetadata); }  ///< "": none.

  void SetLabel(int64_t i, int64_t label);
  /// Names of the classes by label; empty: labels have no names.
  void SetClassNames(std::vector<std::string> names) { class_names_ = std::move(names); }
  const std::vector<std::string>& class_names() const { return class_names_; }

  /// Takes examples out; the others keep their order. @param indices  ascending.
  void Remove(const std::vector<int64_t>& indices);

 private:
  enum Field { kId, kFile, kText, kTarget, kMetadata, kNumFields };
  struct Record {
    uint64_t begin = 0;  ///< Of its texts, which follow each other.
    uint32_t sizes[kNumFields] = {};
    int32_t row = -1;
    bool has_label = false;
    int64_t label = 0;
  };
  std::string_view Part(int64_t i, Field field) const;
  std::string Shortened(const std::string& path) const;
  std::string Whole(std::string_view path) const;

  std::string folder_;
  std::string texts_;
  std::vector<Record> records_;
  std::vector<std::string> class_names_;
};

}  // namespace imageddpo

#include "rollout/data/listing/open_set.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

/// Examples that are taken out of a set, with what is wrong with them.
class Faulty {
 public:
  explicit Faulty(std::vector<std::string> missing) : texts_(std::move(missing)) {}

  /// Takes `bad` out of the examples, and the same ones of the sizes.
  void TakeOut(const std::vector<BadExample>& bad, OpenedSet* set, std::vector<uint64_t>* sizes) {
    std::vector<int64_t> indices;
    for (const BadExample& example : bad) {
      indices.push_back(example.index);
      set->skipped.push_back(set->listing.examples.id(example.index));
      texts_.emplace_back(example.status.message());
    }
    set->listing.examples.Remove(indices);
    size_t kept = 0;
    auto next = indices.begin();
    for (size_t i = 0; i < sizes->size(); ++i) {
      if (next != indices.end() && *next == static_cast<int64_t>(i)) {
        ++next;
      } else {
        (*sizes)[kept++] = (*sizes)[i];
      }
    }
    sizes->resize(kept);
  }
  bool empty() const { return texts_.empty(); }
  std::string Text(const OpenedSet& set) const {
    return BadImagesText(set.listing.path, set.num_listed, texts_);
  }

 private:
  std::vector<std::string> texts_;
};

/// The ids that were skipped before, as bad examples.
std::vector<BadExample> SkippedBefore(const nlohmann::json& before, const ExampleTable& examples) {
  std::unordered_set<std::string> ids;
  if (before.is_object() && before.contains("skipped") && before["skipped"].is_array()) {
    for (const nlohmann::json& id : before["skipped"]) {
      if (id.is_string()) ids.insert(id.get<std::string>());
    }
  }
  std::vector<BadExample> bad;
  for (int64_t i = 0; !ids.empty() && i < examples.size(); ++i) {
    const std::string id = examples.id(i);
    if (!ids.contains(id)) continue;
    bad.push_back({i, absl::InvalidArgumentError(
                          absl::StrCat("'", id, "' could not be read when the job started"))});
  }
  return bad;
}

/// @param before  skips what was skipped before and decodes nothing; null: everything is checked.
absl::StatusOr<OpenedSet> Open(const std::string& path, const OpenOptions& options,
                               const nlohmann::json& before) {
  OpenedSet set;
  IMAGEDDPO_ASSIGN_OR_RETURN(set.listing, ListExamples(path, options.listing));
  ExampleTable& examples = set.listing.examples;
  set.num_listed = examples.size() + static_cast<int64_t>(set.listing.missing.size());
  Faulty faulty(set.listing.missing);
  std::vector<uint64_t> sizes(static_cast<size_t>(examples.size()));
  const bool skips = options.on_error == OnDataError::kSkip;
  if (skips) faulty.TakeOut(SkippedBefore(before, examples), &set, &sizes);
  IMAGEDDPO_ASSIGN_OR_RETURN(HeaderScan scan, ScanHeaders(examples, options.check));
  sizes = std::move(scan.sizes_bytes);
  faulty.TakeOut(scan.bad, &set, &sizes);
  if (skips && before.is_null()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<BadExample> bad,
                               DecodeAll(examples, options.check));
    faulty.TakeOut(bad, &set, &sizes);
  }
  if (!faulty.empty() && (!skips || examples.size() == 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat(faulty.Text(set), "\nremove or repair them",
                     skips ? "" : ", or set `data.on_error: skip` to go on without them"));
  }
  if (!faulty.empty()) {
    set.listing.warnings.push_back(absl::StrCat(faulty.Text(set), "\nthey are skipped"));
  }
  std::sort(set.skipped.begin(), set.skipped.end());
  set.fingerprint = Fingerprint::Of(examples, sizes);
  return set;
}

}  // namespace

nlohmann::json OpenedSet::ToJson() const {
  nlohmann::json json = fingerprint.ToJson();
  json["listed"] = num_listed;
  json["skipped"] = skipped;
  return json;
}

absl::StatusOr<OpenedSet> OpenSet(const std::string& path, const OpenOptions& options) {
  if (options.before.is_null()) return Open(path, options, nullptr);
  IMAGEDDPO_ASSIGN_OR_RETURN(const Fingerprint before, Fingerprint::FromJson(options.before));
  IMAGEDDPO_ASSIGN_OR_RETURN(OpenedSet set, Open(path, options, options.before));
  const std::string difference = Difference(before, set.fingerprint);
  if (difference.empty()) return set;
  const std::string change =
      absl::StrCat("'", ValidText(set.listing.path),
                   "' is not what it was when the job's checkpoint was written: ", difference);
  if (!options.allow_change) {
    return absl::InvalidArgumentError(absl::StrCat(
        change, "; restore it, or set `data.allow_change: true` to go on with what is there now"));
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(set, Open(path, options, nullptr));
  set.listing.warnings.push_back(absl::StrCat(change, "; the job goes on with what is there now"));
  return set;
}

}  // namespace imageddpo

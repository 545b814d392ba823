#include "common/nn/weight_map.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr size_t kMaxNamed = 5;

std::string ShapeText(at::IntArrayRef shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string FirstFew(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kMaxNamed);
  std::string text =
      absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", ");
  if (names.size() > shown) absl::StrAppend(&text, ", … (", names.size(), " in all)");
  return text;
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

bool Listed(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

absl::Status NothingToRead(const std::string& dir, const std::string& stem,
                           const std::vector<std::string>& names) {
  std::vector<std::string> pickles, others;
  for (const std::string& name : names) {
    if (absl::EndsWith(name, ".bin") || absl::EndsWith(name, ".ckpt") ||
        absl::EndsWith(name, ".pt")) {
      pickles.push_back(name);
    } else if (absl::EndsWith(name, ".safetensors")) {
      others.push_back(name);
    }
  }
  std::string message = absl::StrCat(dir, ": no ", stem,
                                     ".safetensors (nor its fp16 variant, nor a sharded one with ",
                                     stem, ".safetensors.index.json)");
  if (!others.empty()) absl::StrAppend(&message, "; rename the one to use: ", FirstFew(others));
  if (others.empty() && !pickles.empty()) {
    absl::StrAppend(
        &message, "; it holds ", FirstFew(pickles),
        ", a pickle, which is not read because it can run code: convert it once in Python with "
        "StableDiffusionPipeline.from_pretrained(folder).save_pretrained(new_folder, "
        "safe_serialization=True)");
  }
  return absl::NotFoundError(message);
}

}  // namespace

absl::StatusOr<WeightMap> WeightMap::Open(const std::string& dir, const std::string& stem,
                                          const ModelOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(dir));
  WeightMap weights(dir, options);
  const std::string base = absl::StrCat(stem, ".safetensors");
  const std::string base_fp16 = absl::StrCat(stem, ".fp16.safetensors");
  // Both spellings of the fp16 index are in use.
  const std::vector<std::string> candidates = {base, absl::StrCat(base, ".index.json"), base_fp16,
                                               absl::StrCat(base, ".index.fp16.json"),
                                               absl::StrCat(base_fp16, ".index.json")};
  for (const std::string& name : candidates) {
    if (!Listed(names, name)) continue;
    weights.source_ = absl::StrCat(dir, "/", name);
    const bool sharded = absl::EndsWith(name, ".json");
    IMAGEDDPO_RETURN_IF_ERROR(sharded ? weights.AddIndex(weights.source_)
                                      : weights.AddFile(weights.source_));
    return weights;
  }
  return NothingToRead(dir, stem, names);
}

absl::Status WeightMap::AddFile(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  for (const std::string& name : file->names()) {
    if (!files_by_name_.emplace(name, file).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", name, " is also in ", files_by_name_.at(name)->path()));
    }
  }
  return absl::OkStatus();
}

absl::Status WeightMap::AddIndex(const std::string& path) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string_view text, Utf8Of(bytes, path));
  IMAGEDDPO_RETURN_IF_ERROR(CheckJsonDepth(text, path));
  const nlohmann::json root = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool has_map =
      root.is_object() && root.contains("weight_map") && root["weight_map"].is_object();
  if (!has_map)
    return absl::InvalidArgumentError(absl::StrCat(path, ": no JSON object with a weight_map"));
  std::map<std::string, std::set<std::string>> names_by_shard;
  for (const auto& [name, shard] : root["weight_map"].items()) {
    const std::string shard_name = shard.is_string() ? shard.get<std::string>() : "";
    if (shard_name.empty() || absl::StrContains(shard_name, '/')) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": weight_map of ", name, " is not the name of a file in the same folder"));
    }
    names_by_shard[shard_name].insert(name);
  }
  for (const auto& [shard, names] : names_by_shard) {
    IMAGEDDPO_RETURN_IF_ERROR(AddFile(absl::StrCat(dir_, "/", shard)));
    for (const std::string& name : names) {
      if (Contains(name)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(dir_, "/", shard, ": no tensor ", name, ", which ", path, " expects in it"));
    }
  }
  return absl::OkStatus();
}

bool WeightMap::ContainsPrefix(const std::string& prefix) const {
  const auto it = files_by_name_.lower_bound(prefix);
  return it != files_by_name_.end() && absl::StartsWith(it->first, prefix);
}

at::Tensor WeightMap::Take(const std::string& name, at::IntArrayRef shape) {
  return TakeAnyShape(name, {shape.vec()});
}

at::Tensor WeightMap::TakeAnyShape(const std::string& name,
                                   const std::vector<std::vector<int64_t>>& shapes) {
  const auto it = files_by_name_.find(name);
  at::Tensor nothing = at::zeros({1}, at::TensorOptions().dtype(options_.dtype));
  if (it == files_by_name_.end()) {
    missing_.push_back(absl::StrCat(name, " ", ShapeText(shapes.front())));
    return nothing;
  }
  taken_.insert(name);
  absl::StatusOr<at::Tensor> stored = it->second->Get(name);
  if (!stored.ok()) {
    misfits_.push_back(std::string(stored.status().message()));
    return nothing;
  }
  bool fits = false;
  for (const std::vector<int64_t>& shape : shapes)
    fits = fits || stored->sizes() == at::IntArrayRef(shape);
  if (!fits || !stored->is_floating_point()) {
    misfits_.push_back(absl::StrCat(
        it->second->path(), ": ", name, " is ", c10::toString(stored->scalar_type()), " ",
        ShapeText(stored->sizes()), ", expected floating point ", ShapeText(shapes.front())));
    return nothing;
  }
  const auto wanted = at::TensorOptions().dtype(options_.dtype).device(options_.device);
  if (stored->scalar_type() == options_.dtype && options_.device.is_cpu()) {
    return stored->reshape(shapes.front());
  }
  try {
    at::Tensor copy = stored->to(wanted, /*non_blocking=*/false, /*copy=*/true);
    it->second->Discard(name);
    return copy.reshape(shapes.front()).requires_grad_(false);
  } catch (const c10::Error& error) {  // Out of memory, or no such device.
    if (not_placed_.ok()) not_placed_ = NotPlaced(name, error);
    return nothing;
  }
}

absl::Status WeightMap::NotPlaced(const std::string& name, const c10::Error& error) const {
  const std::string said = error.what_without_backtrace();
  const std::string what = absl::StrCat(source_, ": ", name, " cannot be put on ",
                                        options_.device.str(), ": ", FirstLine(said));
  // The CPU allocator has no error type of its own.
  const bool is_out_of_memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                                absl::StrContains(said, "not enough memory") ||
                                absl::StrContains(said, "alloc_cpu");
  if (!is_out_of_memory) return absl::InvalidArgumentError(what);
  return absl::ResourceExhaustedError(
      absl::StrCat("out of memory while the model is loaded: ", what,
                   "; take `model.precision: bf16`, or ranks with more memory (`imageddpo plan` "
                   "says how much)"));
}

absl::Status WeightMap::Finish() const {
  IMAGEDDPO_RETURN_IF_ERROR(not_placed_);
  std::vector<std::string> left_over;
  for (const auto& [name, file] : files_by_name_) {
    if (!taken_.contains(name)) left_over.push_back(name);
  }
  std::vector<std::string> problems;
  if (!missing_.empty()) problems.push_back(absl::StrCat("missing: ", FirstFew(missing_)));
  if (!misfits_.empty()) problems.push_back(absl::StrCat("wrong: ", FirstFew(misfits_)));
  if (!left_over.empty())
    problems.push_back(absl::StrCat("not part of the model: ", FirstFew(left_over)));
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source_, " does not fit ", dir_, "/config.json; ",
                                                 absl::StrJoin(problems, "; ")));
}

}  // namespace imageddpo

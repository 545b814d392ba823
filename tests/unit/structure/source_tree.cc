#include "tests/unit/structure/source_tree.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace imageddpo {
namespace {

constexpr std::size_t kMaxLines = 500;
constexpr int kTests = 100;
constexpr std::array<const char*, 5> kRoots = {"common", "rollout", "trainer", "deploy", "tests"};

/// "common/io" for "common/io/image.h"; "tests" for everything below tests.
std::string FolderOf(const std::string& path) {
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  if (parts.size() < 3 || parts[0] == "tests") {
    return parts[0];
  }
  return absl::StrCat(parts[0], "/", parts[1]);
}

std::optional<int> LayerOf(const std::string& folder) {
  static const std::map<std::string, int> kCommon = {
      {"common/base", 0},       {"common/config", 1},  {"common/io", 1},
      {"common/comm", 1},       {"common/metrics", 1}, {"common/diffusion", 2},
      {"common/trajectory", 3}, {"common/plan", 3},    {"common/worker", 4},
  };
  if (const auto found = kCommon.find(folder); found != kCommon.end()) {
    return found->second;
  }
  if (absl::StartsWith(folder, "rollout/") || absl::StartsWith(folder, "trainer/")) {
    return 5;
  }
  if (absl::StartsWith(folder, "deploy/")) {
    return 6;
  }
  if (folder == "tests") {
    return kTests;
  }
  return std::nullopt;
}

/// "rollout", "trainer" or "deploy", whose folders may include each other; else empty.
std::string PartOf(const std::string& folder) {
  const std::string first = folder.substr(0, folder.find('/'));
  return first == "rollout" || first == "trainer" || first == "deploy" ? first : "";
}

struct Include {
  std::string path;
  bool quoted = false;
};

std::vector<Include> IncludesOf(const std::string& text) {
  std::vector<Include> includes;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    constexpr absl::string_view kDirective = "#include ";
    if (!absl::StartsWith(line, kDirective) || line.size() < kDirective.size() + 2) {
      continue;
    }
    const bool quoted = line[kDirective.size()] == '"';
    const absl::string_view rest = line.substr(kDirective.size() + 1);
    includes.push_back({std::string(rest.substr(0, rest.find(quoted ? '"' : '>'))), quoted});
  }
  return includes;
}

bool IsTorch(const std::string& include) {
  return absl::StartsWith(include, "ATen/") || absl::StartsWith(include, "c10/") ||
         absl::StartsWith(include, "torch/");
}

bool IsGrpc(const std::string& include) {
  return absl::StartsWith(include, "grpc/") || absl::StartsWith(include, "grpcpp/") ||
         absl::EndsWith(include, ".grpc.pb.h");
}

/// Everything that compiling `path` includes, as far as the tree's own headers tell.
std::set<std::string> AllIncludes(const SourceTree& tree, const std::string& path) {
  std::set<std::string> seen;
  std::vector<std::string> open = {path};
  while (!open.empty()) {
    const auto file = tree.find(open.back());
    open.pop_back();
    if (file == tree.end()) {
      continue;
    }
    for (Include& include : IncludesOf(file->second)) {
      if (seen.insert(include.path).second) {
        open.push_back(std::move(include.path));
      }
    }
  }
  return seen;
}

}  // namespace

SourceTree ReadSourceTree(const std::filesystem::path& root) {
  SourceTree tree;
  for (const char* const folder : kRoots) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string name = entry.path().filename();
      if (!entry.is_regular_file() || !(absl::EndsWith(name, ".h") || absl::EndsWith(name, ".cc") ||
                                        absl::EndsWith(name, ".h.in"))) {
        continue;
      }
      std::ifstream file(entry.path());
      tree[entry.path().lexically_relative(root).generic_string()] =
          std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  return tree;
}

std::vector<std::string> LayerViolations(const SourceTree& tree) {
  std::vector<std::string> violations;
  for (const auto& [path, text] : tree) {
    const std::string from = FolderOf(path);
    const std::optional<int> from_layer = LayerOf(from);
    if (!from_layer.has_value()) {
      violations.push_back(absl::StrCat(path, ": the folder ", from, " stands in no layer"));
      continue;
    }
    for (const Include& include : IncludesOf(text)) {
      if (!include.quoted || absl::EndsWith(include.path, ".pb.h")) {
        continue;
      }
      const std::string to = FolderOf(include.path);
      const std::optional<int> to_layer = LayerOf(to);
      if (!to_layer.has_value()) {
        // Libraries' headers in quotes are no concern of the layers.
        if (std::find(kRoots.begin(), kRoots.end(), to.substr(0, to.find('/'))) != kRoots.end()) {
          violations.push_back(absl::StrCat(path, ": the folder ", to, " stands in no layer"));
        }
        continue;
      }
      if (!tree.contains(include.path) && !tree.contains(include.path + ".in")) {
        violations.push_back(absl::StrCat(path, " includes ", include.path, ", which is no file"));
      }
      const bool same_part = !PartOf(from).empty() && PartOf(from) == PartOf(to);
      if (from != to && !same_part && *to_layer >= *from_layer) {
        violations.push_back(
            absl::StrCat(path, " includes ", include.path, ": ", from, " must not depend on ", to));
      }
    }
  }
  return violations;
}

std::vector<std::string> TorchAndGrpcTogether(const SourceTree& tree) {
  std::vector<std::string> violations;
  for (const auto& [path, text] : tree) {
    const std::set<std::string> includes = AllIncludes(tree, path);
    const auto torch = std::find_if(includes.begin(), includes.end(), IsTorch);
    const auto grpc = std::find_if(includes.begin(), includes.end(), IsGrpc);
    if (torch != includes.end() && grpc != includes.end()) {
      violations.push_back(absl::StrCat(path, " sees both ", *torch, " and ", *grpc));
    }
  }
  return violations;
}

std::vector<std::string> FormViolations(const SourceTree& tree) {
  std::vector<std::string> violations;
  for (const auto& [path, text] : tree) {
    const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    if (lines > kMaxLines) {
      violations.push_back(absl::StrCat(path, " has ", lines, " lines; at most ", kMaxLines));
    }
    if (absl::EndsWith(path, ".h")) {
      if (!absl::StrContains(text, "#pragma once\n")) {
        violations.push_back(absl::StrCat(path, " lacks #pragma once"));
      }
      if (absl::StrContains(text, "\n#if")) {
        violations.push_back(
            absl::StrCat(path, " has a conditional; choose implementations by CMake file list"));
      }
    }
    for (const Include& include : IncludesOf(text)) {
      if (include.path == "torch/torch.h" || include.path == "torch/all.h" ||
          include.path == "torch/extension.h") {
        violations.push_back(absl::StrCat(path, " includes ", include.path,
                                          ", which takes 20 s to compile; use ATen/ops/<op>.h"));
      }
    }
  }
  return violations;
}

}  // namespace imageddpo

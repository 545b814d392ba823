#include "tests/unit/structure/source_tree.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace imageddpo {
namespace {

constexpr std::size_t kMaxLines = 400;
constexpr int kMaxFiles = 30;
constexpr std::array<const char*, 5> kRoots = {"common", "rollout", "trainer", "deploy", "tests"};

/// A folder's place in the order of includes: it may include folders of lower layers and, within
/// its own house, of lower floors.
struct Room {
  const char* folder;
  const char* house;
  int layer;
  int floor;
};

constexpr Room kRooms[] = {
    {"common/base", "common/base", 0, 0},
    {"common/config/yaml", "common/config", 1, 0},
    {"common/config", "common/config", 1, 1},
    {"common/config/compare", "common/config", 1, 2},
    {"common/io/codec", "common/io", 1, 0},
    {"common/io", "common/io", 1, 1},
    {"common/http", "common/http", 1, 0},
    {"common/comm", "common/comm", 1, 0},
    {"common/comm/mailbox", "common/comm", 1, 1},
    {"common/comm/nccl", "common/comm", 1, 2},
    {"common/comm/mpi", "common/comm", 1, 3},
    {"common/access", "common/access", 2, 0},
    {"common/metrics", "common/metrics", 2, 0},
    {"common/learning", "common/learning", 2, 0},
    {"common/device", "common/device", 2, 0},
    {"common/kernels", "common/kernels", 2, 0},
    {"common/kernels/gpu", "common/kernels", 2, 1},
    {"common/model_config", "common/model_config", 2, 0},
    {"common/nn", "common/nn", 3, 0},
    {"common/text", "common/text", 4, 0},
    {"common/lora", "common/lora", 4, 0},
    {"common/sd", "common/sd", 5, 0},
    {"common/diffusion", "common/diffusion", 6, 0},
    {"common/trajectory/record", "common/trajectory", 7, 0},
    {"common/trajectory/schedule", "common/trajectory", 7, 0},
    {"common/trajectory/publish", "common/trajectory", 7, 1},
    {"common/plan", "common/plan", 7, 0},
    {"common/worker", "common/worker", 8, 0},
    {"rollout/data/corrupt", "rollout", 9, 0},
    {"rollout/data/listing", "rollout", 9, 0},
    {"rollout/data", "rollout", 9, 1},
    {"rollout/sampler", "rollout", 9, 1},
    {"rollout/reward/remote", "rollout", 9, 0},
    {"rollout/reward", "rollout", 9, 2},
    {"rollout/worker", "rollout", 9, 3},
    {"trainer/algo", "trainer", 9, 0},
    {"trainer/guards", "trainer", 9, 0},
    {"trainer/loop", "trainer", 9, 1},
    {"trainer/controller/store", "trainer/controller", 9, 0},
    {"trainer/controller/tensorboard", "trainer/controller", 9, 0},
    {"trainer/controller/artifacts", "trainer/controller", 9, 1},
    {"trainer/controller/pool", "trainer/controller", 9, 1},
    {"trainer/controller/jobs", "trainer/controller", 9, 2},
    {"trainer/controller/files", "trainer/controller", 9, 3},
    {"trainer/controller/streams", "trainer/controller", 9, 4},
    {"trainer/controller/api", "trainer/controller", 9, 5},
    {"trainer/controller/web", "trainer/controller", 9, 6},
    {"trainer/controller", "trainer/controller", 9, 7},
    {"deploy/demo", "deploy", 10, 0},
    {"deploy/trace", "deploy", 10, 0},
    {"deploy/imageddpo/text", "deploy", 10, 0},
    {"deploy/imageddpo/client", "deploy", 10, 1},
    {"deploy/imageddpo/report", "deploy", 10, 1},
    {"deploy/imageddpo/commands", "deploy", 10, 2},
    {"deploy/imageddpo/commands/overview", "deploy", 10, 3},
    {"deploy/imageddpo", "deploy", 10, 4},
    {"deploy/imageddpod", "deploy", 10, 5},
    {"tests", "tests", 100, 0},
};

bool IsTest(const std::string& path) { return absl::StartsWith(path, "tests/"); }

/// "common/io" for "common/io/image.h"; "tests" for everything below tests.
std::string FolderOf(const std::string& path) {
  if (IsTest(path)) return "tests";
  return path.substr(0, path.rfind('/'));
}

/// Null for a folder that has no place.
const Room* RoomOf(const std::string& folder) {
  const auto* const found = std::find_if(std::begin(kRooms), std::end(kRooms),
                                         [&](const Room& room) { return folder == room.folder; });
  return found == std::end(kRooms) ? nullptr : found;
}

bool MayInclude(const Room& from, const Room& to) {
  if (absl::string_view(from.folder) == to.folder) return true;
  if (absl::string_view(from.house) == to.house) return to.floor < from.floor;
  return to.layer < from.layer;
}

bool IsCpp(const std::string& path) {
  return absl::EndsWith(path, ".h") || absl::EndsWith(path, ".cc") || absl::EndsWith(path, ".h.in");
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

/// All headers that `path` includes, directly or through headers of the tree.
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
      if (!entry.is_regular_file() || !(IsCpp(name) || absl::EndsWith(name, ".py") ||
                                        absl::EndsWith(name, ".sh") || name == "CMakeLists.txt")) {
        continue;
      }
      std::ifstream file(entry.path());
      tree[entry.path().lexically_relative(root).generic_string()] =
          std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  return tree;
}

std::map<std::string, int> CountFiles(const std::filesystem::path& root) {
  std::map<std::string, int> counts;
  for (const char* const folder : kRoots) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      const std::string parent = entry.path().parent_path().lexically_relative(root);
      if (entry.is_regular_file() && !absl::StrContains(parent, "__pycache__")) ++counts[parent];
    }
  }
  return counts;
}

std::vector<std::string> LayerViolations(const SourceTree& tree) {
  std::vector<std::string> violations;
  for (const auto& [path, text] : tree) {
    if (!IsCpp(path)) continue;
    const std::string from = FolderOf(path);
    const Room* const from_room = RoomOf(from);
    if (from_room == nullptr) {
      violations.push_back(absl::StrCat(path, ": the folder ", from, " stands in no layer"));
      continue;
    }
    for (const Include& include : IncludesOf(text)) {
      const std::string root = include.path.substr(0, include.path.find('/'));
      if (!include.quoted || absl::EndsWith(include.path, ".pb.h") ||
          std::find(kRoots.begin(), kRoots.end(), root) == kRoots.end()) {
        continue;  // Headers of libraries and generated headers have no layer.
      }
      if (!tree.contains(include.path) && !tree.contains(include.path + ".in")) {
        violations.push_back(absl::StrCat(path, " includes ", include.path, ", which is no file"));
      }
      const std::string to = FolderOf(include.path);
      const Room* const to_room = RoomOf(to);
      if (to_room == nullptr) {
        violations.push_back(absl::StrCat(path, ": the folder ", to, " stands in no layer"));
      } else if (!MayInclude(*from_room, *to_room)) {
        violations.push_back(
            absl::StrCat(path, " includes ", include.path, ": ", from, " must not depend on ", to));
      }
    }
  }
  return violations;
}

std::vector<std::string> TestCodeInDeploy(const SourceTree& tree) {
  std::map<std::string, std::string> tested;  // Header to a test that includes it.
  std::set<std::string> used;
  for (const auto& [path, text] : tree) {
    for (const Include& include : IncludesOf(text)) {
      if (!absl::StartsWith(include.path, "deploy/")) continue;
      if (IsTest(path)) {
        tested[include.path] = path;
      } else if (path != absl::StrCat(absl::StripSuffix(include.path, ".h"), ".cc")) {
        used.insert(include.path);
      }
    }
  }
  std::vector<std::string> violations;
  for (const auto& [header, test] : tested) {
    if (!used.contains(header)) {
      violations.push_back(absl::StrCat(header, " is included by tests alone (", test,
                                        "): it belongs in tests/testing"));
    }
  }
  return violations;
}

std::vector<std::string> FolderViolations(const SourceTree& tree,
                                          const std::map<std::string, int>& files_of_folders) {
  std::vector<std::string> violations;
  for (const auto& [folder, files] : files_of_folders) {
    if (files > kMaxFiles) {
      violations.push_back(absl::StrCat(folder, " has ", files, " files; at most ", kMaxFiles));
    }
  }
  std::set<std::string> folders;
  for (const auto& [path, text] : tree) {
    if (IsCpp(path) && !IsTest(path)) folders.insert(FolderOf(path));
  }
  for (const std::string& folder : folders) {
    const auto list = tree.find(folder + "/CMakeLists.txt");
    if (list == tree.end()) {
      violations.push_back(absl::StrCat(folder, " has no CMakeLists.txt"));
    } else if (!absl::StartsWith(list->second, "# ")) {
      violations.push_back(
          absl::StrCat(list->first, " does not begin with a sentence on what the folder is"));
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

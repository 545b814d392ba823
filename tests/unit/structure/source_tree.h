#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace imageddpo {

/// The project's own code: path from the repository's root to text.
using SourceTree = std::map<std::string, std::string>;

/// Reads every .h, .h.in (CMake makes a header of it), .cc, .py, .sh and CMakeLists.txt below
/// common, rollout, trainer, deploy and tests of `root`.
SourceTree ReadSourceTree(const std::filesystem::path& root);

/// How many files of any kind lie in each folder below the same five.
std::map<std::string, int> CountFiles(const std::filesystem::path& root);

/// Includes that violate the order of folders, which docs/architecture.md shows and the table in
/// source_tree.cc holds. A folder may include itself, folders of lower layers and, within its own
/// house (common/comm, trainer/controller, ...), those of lower floors. tests/ may include anything
/// and is included by tests only. Also lists folders that are missing from the table, and includes
/// that are neither a file of the tree nor a generated header. One sentence each, naming file and
/// include.
std::vector<std::string> LayerViolations(const SourceTree& tree);

/// Headers of deploy/ that are included by tests but by no program: they belong in tests/testing.
std::vector<std::string> TestCodeInDeploy(const SourceTree& tree);

/// Folders with more than 30 files; folders of C++ outside tests/ whose CMakeLists.txt does not
/// begin with a sentence on what they are.
std::vector<std::string> FolderViolations(const SourceTree& tree,
                                          const std::map<std::string, int>& files_of_folders);

/// Sources that see both a libtorch and a gRPC header, directly or through headers of the tree: the
/// two carry different versions of protobuf.
std::vector<std::string> TorchAndGrpcTogether(const SourceTree& tree);

/// Files that break a rule of form: longer than 400 lines, a header without `#pragma once` or with
/// a conditional (implementations are chosen by CMake), an include of a whole libtorch front end.
std::vector<std::string> FormViolations(const SourceTree& tree);

}  // namespace imageddpo

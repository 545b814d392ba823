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

/// Includes that go against the order of the rooms, which CONTRIBUTING.md shows and the table in
/// source_tree.cc holds: a folder includes itself, folders of lower layers and, in its own house
/// (common/comm, trainer/controller, ...), those below it. tests/ includes anything and is included
/// by tests only. Also folders that stand in no layer, and includes that are neither a file of the
/// tree nor a generated header. One sentence each, naming file and include.
std::vector<std::string> LayerViolations(const SourceTree& tree);

/// Headers of deploy/ that only tests include: what is there for the sake of tests belongs to them.
/// (Tests of a program include what the program itself is made of.)
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

#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace imageddpo {

/// The project's own C++ files: path from the repository's root to text.
using SourceTree = std::map<std::string, std::string>;

/// Reads every .h, .h.in (CMake makes a header of it) and .cc below common, rollout, trainer,
/// deploy and tests of `root`.
SourceTree ReadSourceTree(const std::filesystem::path& root);

/// Includes that go against the layers
///   base < {config, io, comm, metrics} < diffusion < trajectory < worker < {rollout, trainer} <
///   deploy
/// A folder includes itself, folders of lower layers and, below rollout/, trainer/ and deploy/, the
/// folders beside it; tests/ includes anything and is included by tests only. Rollout and trainer
/// thus never include each other. Also folders that stand in no layer, and quoted includes that are
/// neither a file of the tree nor a generated header. One sentence each, naming file and include.
std::vector<std::string> LayerViolations(const SourceTree& tree);

/// Sources that see both a libtorch and a gRPC header, directly or through headers of the tree: the
/// two carry different versions of protobuf.
std::vector<std::string> TorchAndGrpcTogether(const SourceTree& tree);

/// Files that break a rule of form: longer than 500 lines, a header without `#pragma once` or with
/// a conditional (implementations are chosen by CMake), an include of a whole libtorch front end.
std::vector<std::string> FormViolations(const SourceTree& tree);

}  // namespace imageddpo

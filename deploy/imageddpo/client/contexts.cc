#include "deploy/imageddpo/client/contexts.h"

#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/io/file.h"

namespace imageddpo {
namespace {

constexpr char kCurrent[] = "current";
constexpr char kContexts[] = "contexts";

/// Keys of an entry, and where each belongs.
std::vector<std::pair<const char*, std::string*>> FieldsOf(Context* context) {
  return {{"address", &context->address},
          {"tls_ca_file", &context->tls_ca_file},
          {"tls_certificate_file", &context->tls_certificate_file},
          {"tls_key_file", &context->tls_key_file},
          {"token_file", &context->token_file}};
}

}  // namespace

std::string ContextsFile() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  std::string folder;
  if (config != nullptr && config[0] == '/') {
    folder = config;
  } else if (home != nullptr && home[0] != '\0') {
    folder = absl::StrCat(home, "/.config");
  }
  return folder.empty() ? "" : absl::StrCat(folder, "/imageddpo/contexts.yaml");
}

absl::StatusOr<Contexts> ReadContexts(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return Contexts();
  if (!text.ok()) return text.status();
  Contexts contexts;
  try {
    const YAML::Node root = YAML::Load(*text);
    if (root[kCurrent]) contexts.current = root[kCurrent].as<std::string>();
    for (const auto& entry : root[kContexts]) {
      Context& context = contexts.entries[entry.first.as<std::string>()];
      for (const auto& [key, target] : FieldsOf(&context)) {
        if (entry.second[key]) *target = entry.second[key].as<std::string>();
      }
    }
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no file of contexts: ", error.what(), "; mend or remove it"));
  }
  return contexts;
}

absl::Status WriteContexts(const std::string& path, const Contexts& contexts) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << kCurrent << YAML::Value << YAML::DoubleQuoted
      << contexts.current << YAML::Key << kContexts << YAML::Value << YAML::BeginMap;
  for (auto [name, context] : contexts.entries) {
    out << YAML::Key << YAML::DoubleQuoted << name << YAML::Value << YAML::BeginMap;
    for (const auto& [key, value] : FieldsOf(&context)) {
      if (value->empty()) continue;
      out << YAML::Key << key << YAML::Value << YAML::DoubleQuoted << *value;
    }
    out << YAML::EndMap;
  }
  out << YAML::EndMap << YAML::EndMap;
  const std::string folder = std::filesystem::path(path).parent_path().string();
  IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(folder));
  ::chmod(folder.c_str(), S_IRWXU);
  return WriteFileAtomically(path, absl::StrCat(out.c_str(), "\n"));
}

absl::StatusOr<Context> FindContext(const Contexts& contexts, const std::string& name) {
  const auto found = contexts.entries.find(name);
  if (found != contexts.entries.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, context] : contexts.entries) names.push_back(known);
  return absl::InvalidArgumentError(
      absl::StrCat("there is no context `", name, "`; ",
                   names.empty() ? "`imageddpo context add` makes one"
                                 : absl::StrCat("there are ", absl::StrJoin(names, ", "))));
}

}  // namespace imageddpo

#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageddpo {

/// A service that the user has given a name.
struct Context {
  std::string address;  ///< HOST:PORT or unix:PATH.
  std::string tls_ca_file, tls_certificate_file, tls_key_file, token_file;  ///< Empty: none.
};

/// contexts.yaml of the client.
struct Contexts {
  std::string current;  ///< Name of the one in use; empty: none.
  std::map<std::string, Context> entries;
};

/// $XDG_CONFIG_HOME/imageddpo/contexts.yaml, or below $HOME/.config; empty: neither is set.
std::string ContextsFile();

/// @return none where there is no file; INVALID_ARGUMENT naming the file and what is wrong in it.
absl::StatusOr<Contexts> ReadContexts(const std::string& path);

/// Makes the folder too, for this user alone.
absl::Status WriteContexts(const std::string& path, const Contexts& contexts);

/// @return INVALID_ARGUMENT naming the contexts that there are.
absl::StatusOr<Context> FindContext(const Contexts& contexts, const std::string& name);

}  // namespace imageddpo

#pragma once

#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "common/http/http_server.h"

namespace imageddpo {

/// A file of deploy/web, as it was when this was built.
struct EmbeddedFile {
  std::string_view name;  ///< "app.js"
  std::string_view bytes;
  std::string_view hash;  ///< Of the bytes.
};

absl::Span<const EmbeddedFile> PageFiles();

/// "/" is index.html; every other file is served under its name. Without a token: the files have
/// nothing of a job in them, and a browser sends no token when it opens a page.
std::vector<HttpRoute> PageRoutes();

}  // namespace imageddpo

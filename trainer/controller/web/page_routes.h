#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/base/embedded_file.h"
#include "common/http/http_server.h"

namespace imageddpo {

/// The files of deploy/web.
absl::Span<const EmbeddedFile> PageFiles();

/// "/" is index.html; every other file is served under its name. Without a token: the files have
/// nothing of a job in them, and a browser sends no token when it opens a page.
std::vector<HttpRoute> PageRoutes();

}  // namespace imageddpo

#include "trainer/controller/web/page_routes.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

std::string TypeOf(std::string_view name) {
  const absl::string_view file(name.data(), name.size());
  if (absl::EndsWith(file, ".html")) return "text/html; charset=utf-8";
  if (absl::EndsWith(file, ".css")) return "text/css; charset=utf-8";
  return "text/javascript; charset=utf-8";
}

}  // namespace

std::vector<HttpRoute> PageRoutes() {
  std::vector<HttpRoute> routes;
  for (const EmbeddedFile& file : PageFiles()) {
    const HttpResponse response{.type = TypeOf(file.name),
                                .body = std::string(file.bytes),
                                .cache_control = "no-cache",  // Asked for again, with its ETag.
                                .etag = absl::StrCat("\"", std::string(file.hash), "\"")};
    const bool is_index = file.name == "index.html";
    routes.push_back({.path = is_index ? "/" : absl::StrCat("/", std::string(file.name)),
                      .handler = [response](const HttpRequest&) { return response; },
                      .is_open = true});
  }
  return routes;
}

}  // namespace imageddpo

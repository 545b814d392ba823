// The head of a request to the HTTP server, as anybody may send it.
#include "common/http/http_message.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {

std::vector<std::string> MadeSeeds() {
  return {"GET /metrics HTTP/1.1\r\nHost: localhost:9464\r\nAccept: */*\r\n\r\n",
          "GET /api/jobs?limit=5&state=a%20b+c&x HTTP/1.1\r\nHost: [::1]:80\r\n"
          "Authorization: Bearer imageddpo_00\r\nIf-None-Match: \"a\"\r\n\r\n",
          "HEAD / HTTP/1.0\n\n"};
}

void Read(std::string_view input) {
  const auto request = ParseHttpRequest(input);
  if (!request.ok()) {
    (void)HttpText(HttpResponse::Error(request.status()), /*is_head=*/false);
    return;
  }
  Require(request->path.starts_with('/'), "a path begins with a slash");
  (void)IsHostLocal(request->Header("host"));
  (void)request->Query("limit");
}

}  // namespace imageddpo::fuzz

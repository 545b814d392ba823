#include "common/http/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include "common/access/certificates.h"
#include "tests/testing/http_get.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// The least that a token check can be.
class OneToken final : public TokenCheck {
 public:
  absl::StatusOr<Caller> Check(std::string_view token) const override {
    if (token == "broken") return absl::UnavailableError("tokens.json cannot be read");
    if (token != "secret") return absl::UnauthenticatedError("who are you?");
    return Caller{"prometheus", Role::kViewer};
  }
};

std::vector<HttpRoute> Routes() {
  return {{"/", [](const HttpRequest&) { return HttpResponse{.body = "page", .etag = "\"7\""}; },
           /*is_open=*/true},
          {"/who",
           [](const HttpRequest& request) {
             return HttpResponse{.body = request.caller.owner + RoleName(request.caller.role)};
           }},
          {"/echo/",
           [](const HttpRequest& request) {
             return HttpResponse{.body = request.path + " " + request.Query("a")};
           }},
          {.path = "/change/",
           .handler =
               [](const HttpRequest& request) {
                 return HttpResponse{.body = request.caller.owner + " " + request.peer};
               },
           .is_change = true}};
}

absl::StatusOr<std::unique_ptr<HttpServer>> StartAt(const std::string& host, int port) {
  return HttpServer::Start({Address::Of(host, port)}, Routes());
}

std::unique_ptr<HttpServer> Started(std::shared_ptr<const TokenCheck> tokens = nullptr) {
  auto server = HttpServer::Start({Address::Of("127.0.0.1", 0), std::move(tokens)}, Routes());
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

/// Connected to 127.0.0.1.
int ConnectTo(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const timeval timeout{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

/// What a server answers to these bytes, up to its end of the connection.
std::string Raw(int port, const std::string& bytes) {
  const int fd = ConnectTo(port);
  EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
  std::string all;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
    all.append(buffer, static_cast<size_t>(n));
  }
  ::close(fd);
  return all;
}

TEST(HttpMessage, ARequestIsParsed) {
  const auto request = ParseHttpRequest(
      "GET /a/b?x=1%202&y=+&x=%zz&flag HTTP/1.1\r\nHost: h\r\nX-Long:  two words \r\n\r\n");
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->method, "GET");
  EXPECT_EQ(request->path, "/a/b");
  EXPECT_EQ(request->Query("x"), "%zz");  // The last one; what is no escape stays.
  EXPECT_EQ(request->Query("y"), " ");
  EXPECT_TRUE(request->query.contains("flag"));
  EXPECT_EQ(request->Query("none"), "");
  EXPECT_EQ(request->Header("x-long"), "two words");
}

TEST(HttpMessage, WhatIsNoRequestIsRefused) {
  for (const char* head :
       {"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET  HTTP/1.1\r\n\r\n",
        "GET x HTTP/1.1\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nbad name: x\r\n\r\n", "GET http://evil/ HTTP/1.1\r\n\r\n"}) {
    EXPECT_FALSE(ParseHttpRequest(head).ok()) << head;
  }
}

TEST(HttpMessage, OnlyNamesOfThisHostAreLocal) {
  for (const char* host :
       {"", "localhost", "LocalHost:80", "127.0.0.1:9464", "127.1.2.3", "[::1]", "[::1]:9464"}) {
    EXPECT_TRUE(IsHostLocal(host)) << host;
  }
  for (const char* host : {"evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80",
                           "10.0.0.1", "[::2]", "unix:/x", ":80", "[::1].evil.example"}) {
    EXPECT_FALSE(IsHostLocal(host)) << host;
  }
}

TEST(HttpServer, EveryAnswerHasTheSecurityHeaders) {
  const auto server = Started();
  for (const char* path : {"/", "/who", "/nowhere"}) {
    const std::string headers = HttpFetch(server->port(), path).headers;
    EXPECT_THAT(headers,
                HasSubstr("Content-Security-Policy: default-src 'none'; script-src 'self'; "
                          "style-src 'self'; img-src 'self' data:; connect-src 'self'"));
    EXPECT_THAT(headers, HasSubstr("frame-ancestors 'none'"));
    EXPECT_THAT(headers, Not(HasSubstr("unsafe-inline")));
    EXPECT_THAT(headers, HasSubstr("X-Content-Type-Options: nosniff"));
    EXPECT_THAT(headers, HasSubstr("Referrer-Policy: no-referrer"));
    EXPECT_THAT(headers, HasSubstr("Cache-Control: no-store"));
  }
}

TEST(HttpServer, APageOfAnotherSiteIsRefusedOnLoopback) {
  const auto server = Started();
  EXPECT_THAT(Raw(server->port(), "GET /who HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
              HasSubstr("HTTP/1.1 421"));
  EXPECT_THAT(Raw(server->port(), "GET /who HTTP/1.1\r\nHost: localhost:1\r\n\r\n"),
              HasSubstr("HTTP/1.1 200"));
}

TEST(HttpServer, TheLongestRouteAnswersAndNothingIsDecoded) {
  const auto server = Started();
  EXPECT_EQ(HttpFetch(server->port(), "/echo/x?a=b").body, "/echo/x b");
  EXPECT_EQ(HttpFetch(server->port(), "/echo/%2e%2e/../y").body, "/echo/%2e%2e/../y ");
  EXPECT_EQ(HttpFetch(server->port(), "/echo").code, 404);
  EXPECT_EQ(HttpFetch(server->port(), "/who/x").code, 404);
  EXPECT_EQ(HttpFetch(server->port(), "/who").body, "admin");
}

TEST(HttpServer, WhatAClientHasIsNotSentAgain) {
  const auto server = Started();
  const HttpReply first = HttpFetch(server->port(), "/");
  EXPECT_EQ(first.body, "page");
  EXPECT_THAT(first.headers, HasSubstr("ETag: \"7\""));
  const HttpReply again = HttpFetch(server->port(), "/", "GET", "If-None-Match: \"7\"\r\n");
  EXPECT_EQ(again.code, 304);
  EXPECT_EQ(again.body, "");
  EXPECT_EQ(HttpFetch(server->port(), "/", "GET", "If-None-Match: \"8\"\r\n").code, 200);
}

TEST(HttpServer, CallersAreAskedForTheirTokenButForOpenRoutes) {
  const auto server = Started(std::make_shared<OneToken>());
  for (const char* path : {"/who", "/echo/x", "/x"}) {
    const HttpReply refused = HttpFetch(server->port(), path);
    EXPECT_EQ(refused.code, 401) << path;
    EXPECT_THAT(refused.headers, HasSubstr("WWW-Authenticate: Bearer"));
    EXPECT_EQ(refused.body, "who are you?\n");
  }
  EXPECT_EQ(HttpFetch(server->port(), "/").code, 200);
  const auto with = [&](const std::string& authorization) {
    return HttpFetch(server->port(), "/who", "GET", "Authorization: " + authorization + "\r\n");
  };
  EXPECT_EQ(with("Bearer secret").body, "prometheusviewer");
  EXPECT_EQ(with("Basic secret").code, 401);
  EXPECT_EQ(with("Bearer broken").code, 503);
}

TEST(HttpServer, AChangeNeedsATokenAndAHeaderThatNoOtherSiteCanSend) {
  const auto server = Started(std::make_shared<OneToken>());
  const std::string token = "Authorization: Bearer secret\r\n";
  const std::string header = std::string(kChangeHeader) + ": 1\r\n";
  const auto post = [&](const std::string& headers) {
    return HttpFetch(server->port(), "/change/x", "POST", headers);
  };
  EXPECT_EQ(post("").code, 403);
  EXPECT_EQ(post(token).code, 403);
  EXPECT_THAT(post(token).body, HasSubstr(kChangeHeader));
  EXPECT_EQ(post(header).code, 401);
  EXPECT_EQ(post("Authorization: Bearer other\r\n" + header).code, 401);
  const HttpReply done = post(token + header);
  EXPECT_EQ(done.code, 200);
  EXPECT_THAT(done.body, HasSubstr("prometheus 127.0.0.1:"));
  EXPECT_THAT(Raw(server->port(),
                  "POST /change/x HTTP/1.1\r\nHost: evil.example\r\n" + token + header + "\r\n"),
              HasSubstr("HTTP/1.1 421"));

  EXPECT_EQ(HttpFetch(server->port(), "/change/x", "GET", token + header).code, 404);
  EXPECT_EQ(HttpFetch(server->port(), "/who", "POST", token + header).code, 405);
  // A browser that asks whether another site may send the header gets no permission.
  for (const char* method : {"PUT", "DELETE", "OPTIONS"}) {
    const HttpReply refused = HttpFetch(server->port(), "/change/x", method, token + header);
    EXPECT_EQ(refused.code, 405) << method;
    EXPECT_THAT(refused.headers, Not(HasSubstr("Access-Control"))) << method;
  }
}

TEST(HttpServer, WithoutTokensNothingIsChanged) {
  const auto server = Started();
  const HttpReply refused =
      HttpFetch(server->port(), "/change/x", "POST", std::string(kChangeHeader) + ": 1\r\n");
  EXPECT_EQ(refused.code, 403);
  EXPECT_THAT(refused.body, HasSubstr("`http.insecure`"));
}

TEST(HttpServer, OddBytesAndLongHeadersEndInAnAnswer) {
  const auto server = Started();
  EXPECT_THAT(Raw(server->port(), "\x16\x03\x01 nonsense\r\n\r\n"), HasSubstr("HTTP/1.1 400"));
  const std::string head = "GET / HTTP/1.1\r\nX: " + std::string(20000, 'x') + "\r\n\r\n";
  EXPECT_THAT(Raw(server->port(), head), HasSubstr("HTTP/1.1 431"));
  const std::string post = "POST /who HTTP/1.1\r\nContent-Length: 100000\r\n\r\n";
  EXPECT_THAT(Raw(server->port(), post + std::string(100000, 'x')), HasSubstr("HTTP/1.1 405"));
}

TEST(HttpServer, SilentClientsDoNotKeepTheServerFromEnding) {
  auto server = Started();
  std::vector<int> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(ConnectTo(server->port()));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const auto begin = std::chrono::steady_clock::now();
  server.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  for (const int fd : silent) ::close(fd);
}

TEST(HttpServer, APortInUseIsAClearError) {
  const auto first = Started();
  const auto second = StartAt("127.0.0.1", first->port());
  ASSERT_EQ(second.status().code(), absl::StatusCode::kUnavailable) << second.status();
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(std::to_string(first->port()) + " is in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("`http.port`"));
}

TEST(HttpServer, BadAddressesAreRefused) {
  for (const auto& [host, port] : std::vector<std::pair<std::string, int>>{
           {"127.0.0.1", -1}, {"127.0.0.1", 65536}, {"203.0.113.7", 0}, {"no such host", 0}}) {
    const auto server = StartAt(host, port);
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << server.status();
    EXPECT_THAT(std::string(server.status().message()), HasSubstr("`http.port`"));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(StartAt("unix:/tmp/x", 0).status()));
}

TEST(HttpServer, ThePortIsFreeAfterTheEnd) {
  int port = 0;
  {
    const auto server = Started();
    port = server->port();
    EXPECT_EQ(HttpFetch(port, "/who").code, 200);
  }
  EXPECT_EQ(HttpFetch(port, "/who").code, 0);
  EXPECT_TRUE(StartAt("127.0.0.1", port).ok());
}

class HttpTlsTest : public ::testing::Test {
 protected:
  HttpTlsTest() : folder_(::testing::TempDir() + "/http-tls-" + std::to_string(::getpid())) {
    std::filesystem::create_directories(folder_);
    const auto authority = MakeAuthority("tests", 2);
    EXPECT_TRUE(authority.ok()) << authority.status();
    const auto pair = IssueCertificate(*authority, "localhost", {"localhost"}, 2);
    EXPECT_TRUE(pair.ok()) << pair.status();
    Write("ca.pem", authority->certificate);
    Write("server.pem", pair->certificate);
    Write("server.key", pair->key);
  }
  ~HttpTlsTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  TlsFiles Files() const {
    return {.certificate_file = folder_ / "server.pem", .key_file = folder_ / "server.key"};
  }
  absl::StatusOr<std::unique_ptr<HttpServer>> Start(const TlsFiles& files) {
    Endpoint endpoint{Address::Of("127.0.0.1", 0)};
    endpoint.tls = files;
    return HttpServer::Start(endpoint, Routes());
  }
  /// The answer to a request over TLS; empty: the handshake or the check of the server failed.
  std::string Get(int port, const std::string& path) {
    SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_load_verify_locations(context, (folder_ / "ca.pem").c_str(), nullptr);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    SSL* const ssl = SSL_new(context);
    SSL_set1_host(ssl, "localhost");
    const int fd = ConnectTo(port);
    SSL_set_fd(ssl, fd);
    std::string all;
    if (SSL_connect(ssl) == 1) {
      const std::string request = "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
      SSL_write(ssl, request.data(), static_cast<int>(request.size()));
      char buffer[4096];
      for (int n = 0; (n = SSL_read(ssl, buffer, sizeof(buffer))) > 0;) {
        all.append(buffer, static_cast<size_t>(n));
      }
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    ::close(fd);
    return all;
  }

  const std::filesystem::path folder_;
};

TEST_F(HttpTlsTest, ServesTlsAndNothingElse) {
  const auto server = Start(Files());
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE((*server)->has_tls());
  EXPECT_THAT(Get((*server)->port(), "/echo/x"), HasSubstr("/echo/x"));
  EXPECT_THAT(Raw((*server)->port(), "GET / HTTP/1.1\r\n\r\n"), Not(HasSubstr("HTTP/1.1 200")));
}

TEST_F(HttpTlsTest, AskedForAClientsCertificateNobodyWithoutOneIsLetIn) {
  TlsFiles files = Files();
  files.ca_file = folder_ / "ca.pem";
  const auto server = Start(files);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(Get((*server)->port(), "/"), "");
}

TEST_F(HttpTlsTest, AMissingFileIsNamed) {
  TlsFiles files = Files();
  files.key_file = folder_ / "none.key";
  const auto server = Start(files);
  ASSERT_TRUE(absl::IsFailedPrecondition(server.status())) << server.status();
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("none.key"));
}

}  // namespace
}  // namespace imageddpo

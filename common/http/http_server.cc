#include "common/http/http_server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace imageddpo {
namespace {

constexpr int kThreads = 6;
constexpr int kBacklog = 64;
constexpr size_t kMaxHeadBytes = 16 << 10;
constexpr std::chrono::seconds kRequestTime{5};
constexpr std::chrono::seconds kResponseTime{10};
constexpr std::chrono::milliseconds kLingerTime{200};

absl::Status ListenError(const Address& address, int code) {
  if (code == EADDRINUSE) {
    return absl::UnavailableError(
        absl::StrCat("http: ", address.ToString(),
                     " is in use by another program (another imageddpod?); end that one, or set "
                     "`http.port` in cluster.yaml to another port (0: any free one)"));
  }
  if (code == EACCES) {
    return absl::UnavailableError(absl::StrCat("http: this user may not bind ", address.ToString(),
                                               "; set `http.port` to 1024 or above"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "http: cannot listen on ", address.ToString(), ": ", std::strerror(code),
      "; `http.address` must be an address of this host and `http.port` from 0 to 65535"));
}

/// A listening socket, and the port that it is bound to.
absl::StatusOr<int> ListenOn(Address* address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const std::string port = absl::StrCat(address->port);
  if (::getaddrinfo(address->host.c_str(), port.c_str(), &hints, &found) != 0) {
    return ListenError(*address, EADDRNOTAVAIL);
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  // "localhost" may be ::1 first, where others call 127.0.0.1.
  const addrinfo* chosen = found;
  for (const addrinfo* it = found; it != nullptr; it = it->ai_next) {
    if (it->ai_family == AF_INET && chosen->ai_family != AF_INET) chosen = it;
  }
  const int fd = ::socket(chosen->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return ListenError(*address, errno);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (::bind(fd, chosen->ai_addr, chosen->ai_addrlen) != 0 || ::listen(fd, kBacklog) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    const absl::Status status = ListenError(*address, errno);
    ::close(fd);
    return status;
  }
  address->port =
      ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                                        : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
  return fd;
}

/// "127.0.0.1:40112"; empty: it is not known.
std::string PeerName(const sockaddr_storage& peer, socklen_t size) {
  std::array<char, NI_MAXHOST> host;
  std::array<char, NI_MAXSERV> port;
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&peer), size, host.data(), host.size(),
                    port.data(), port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  return Address::Of(host.data(), std::atoi(port.data())).ToString();
}

bool Matches(const HttpRoute& route, const std::string& path) {
  const bool is_folder = route.path.size() > 1 && route.path.back() == '/';
  return is_folder ? path.starts_with(route.path) : path == route.path;
}

}  // namespace

HttpServer::File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Endpoint& endpoint,
                                                              std::vector<HttpRoute> routes) {
  if (endpoint.address.is_unix()) {
    return absl::InvalidArgumentError("http: `http.address` cannot be a Unix socket");
  }
  if (endpoint.address.port < 0 || endpoint.address.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("http: `http.port` is ", endpoint.address.port,
                                                   "; it must be from 0 to 65535"));
  }
  std::unique_ptr<TlsContext> tls;
  if (!endpoint.tls.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(tls, TlsContext::Load(endpoint.tls));
  }
  Endpoint bound = endpoint;
  IMAGEDDPO_ASSIGN_OR_RETURN(const int listen_fd, ListenOn(&bound.address));
  const int stop_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) {
    ::close(listen_fd);
    return absl::ResourceExhaustedError("http: no file descriptor is left for the server");
  }
  return std::unique_ptr<HttpServer>(
      new HttpServer(bound, std::move(routes), std::move(tls), listen_fd, stop_fd));
}

HttpServer::HttpServer(const Endpoint& endpoint, std::vector<HttpRoute> routes,
                       std::unique_ptr<TlsContext> tls, int listen_fd, int stop_fd)
    : endpoint_(endpoint),
      routes_(std::move(routes)),
      tls_(std::move(tls)),
      listen_fd_(listen_fd),
      stop_fd_(stop_fd) {
  // Signals are for other threads; SIGPIPE, which OpenSSL's writes may raise, for none.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

HttpServer::~HttpServer() {
  ::eventfd_write(stop_fd_.get(), 1);
  for (std::thread& thread : threads_) thread.join();
}

void HttpServer::Serve() {
  std::array<pollfd, 2> fds = {pollfd{listen_fd_.get(), POLLIN, 0},
                               pollfd{stop_fd_.get(), POLLIN, 0}};
  for (;;) {
    const int ready = ::poll(fds.data(), fds.size(), -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || fds[1].revents != 0) return;
    sockaddr_storage peer{};
    socklen_t peer_size = sizeof(peer);
    const int fd = ::accept4(listen_fd_.get(), reinterpret_cast<sockaddr*>(&peer), &peer_size,
                             SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      const TlsContext::Context tls = tls_ == nullptr ? nullptr : tls_->Get();
      HttpConnection connection(fd, stop_fd_.get(), tls.get());
      Converse(connection, PeerName(peer, peer_size));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // It is offered again at once.
    }
  }
}

void HttpServer::Converse(HttpConnection& connection, const std::string& peer) const {
  const auto read_until = std::chrono::steady_clock::now() + kRequestTime;
  if (!connection.Begin(read_until)) return;
  std::string head;
  std::array<char, 4096> buffer;
  size_t end = std::string::npos;
  while (end == std::string::npos && head.size() <= kMaxHeadBytes) {
    const size_t count = connection.Read(buffer.data(), buffer.size(), read_until);
    if (count == 0) return;
    const size_t from = head.size() < 3 ? 0 : head.size() - 3;
    head.append(buffer.data(), count);
    end = head.find("\r\n\r\n", from);
  }
  std::string method;
  HttpResponse response{.code = 431, .body = "the request's headers are too long\n"};
  if (end != std::string::npos && end <= kMaxHeadBytes) {
    response = Answer(head.substr(0, end + 4), peer, &method);
  }
  const auto write_until = std::chrono::steady_clock::now() + kResponseTime;
  if (!connection.Write(HttpText(response, method == "HEAD"), write_until)) return;
  const bool may_still_send = response.code == 405 || response.code == 431 || method == "POST";
  if (may_still_send) connection.Linger(std::chrono::steady_clock::now() + kLingerTime);
}

HttpResponse HttpServer::Answer(const std::string& head, const std::string& peer,
                                std::string* method) const {
  try {
    absl::StatusOr<HttpRequest> request = ParseHttpRequest(head);
    if (!request.ok()) return HttpResponse::Error(request.status());
    *method = request->method;
    request->peer = peer;
    HttpResponse response = Dispatch(&*request);
    const bool has_it = !response.etag.empty() && request->Header("if-none-match") == response.etag;
    if (response.code == 200 && has_it) response.code = 304;
    return response;
  } catch (const std::exception& error) {
    return {.code = 500, .body = ValidMessage(error.what()) + "\n"};
  }
}

HttpResponse HttpServer::Dispatch(HttpRequest* request) const {
  const bool is_change = request->method == "POST";
  const HttpRoute* const route = RouteOf(request->path, is_change);
  const bool is_read = request->method == "GET" || request->method == "HEAD";
  if (!is_read && (!is_change || route == nullptr)) {
    return {
        .code = 405, .body = "only GET is served here\n", .extra_headers = "Allow: GET, HEAD\r\n"};
  }
  if (endpoint_.address.IsLocal() && !IsHostLocal(request->Header("host"))) {
    return {.code = 421,
            .body = "this address is served for localhost alone; ask for http://localhost\n"};
  }
  if (is_change && endpoint_.token_check == nullptr) {
    return HttpResponse::Error(absl::PermissionDeniedError(
        "without tokens (`http.insecure` in cluster.yaml) this only reads; use the client"));
  }
  if (is_change && request->Header(absl::AsciiStrToLower(kChangeHeader)).empty()) {
    return HttpResponse::Error(absl::PermissionDeniedError(
        absl::StrCat("a request that changes something needs the header ", kChangeHeader, ": 1")));
  }
  const bool is_open = route != nullptr && route->is_open;
  const absl::Status known = is_open ? absl::OkStatus() : Identify(request);
  if (!known.ok()) return HttpResponse::Error(known);
  if (route == nullptr) return HttpResponse::Error(absl::NotFoundError("not found"));
  return route->handler(*request);
}

absl::Status HttpServer::Identify(HttpRequest* request) const {
  request->caller = {"", Role::kAdmin};
  if (endpoint_.token_check == nullptr) return absl::OkStatus();
  const std::string authorization = request->Header("authorization");
  absl::StatusOr<Caller> caller = endpoint_.token_check->Check(BearerToken(authorization));
  if (absl::IsUnavailable(caller.status())) return caller.status();
  if (!caller.ok()) return absl::UnauthenticatedError(caller.status().message());
  request->caller = *std::move(caller);
  request->has_token = true;
  return absl::OkStatus();
}

const HttpRoute* HttpServer::RouteOf(const std::string& path, bool is_change) const {
  const HttpRoute* best = nullptr;  // The one with the longest path.
  for (const HttpRoute& route : routes_) {
    const bool is_better = best == nullptr || route.path.size() > best->path.size();
    if (route.is_change == is_change && is_better && Matches(route, path)) best = &route;
  }
  return best;
}

}  // namespace imageddpo

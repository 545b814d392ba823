#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace imageddpo {

struct HttpReply {
  int code = 0;
  std::string headers;
  std::string body;
};

/// One request over a real socket to 127.0.0.1; code 0 where nobody answers within 5 s.
/// @param header  one more line, with its end; or nothing.
inline HttpReply HttpFetch(int port, const std::string& path, const std::string& method = "GET",
                           const std::string& header = "") {
  HttpReply reply;
  const int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
  const timeval timeout{5, 0};
  setsockopt(socket_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(socket_fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = method + " " + path +
                                " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + header +
                                "\r\n";
    if (send(socket_fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
      std::string all;
      char buffer[4096];
      for (ssize_t n = 0; (n = recv(socket_fd, buffer, sizeof(buffer), 0)) > 0;) {
        all.append(buffer, static_cast<size_t>(n));
      }
      const size_t split = all.find("\r\n\r\n");
      if (all.size() > 12 && split != std::string::npos) {
        reply.code = std::atoi(all.c_str() + 9);
        reply.headers = all.substr(0, split);
        reply.body = all.substr(split + 4);
      }
    }
  }
  close(socket_fd);
  return reply;
}

}  // namespace imageddpo

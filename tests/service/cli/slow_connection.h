#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace imageddpo {

/// A way to a service on this host on which nothing comes through for a while after a connection is
/// made, as where all processors are busy.
class SlowConnection {
 public:
  /// @param address  "127.0.0.1:PORT" of the service.
  SlowConnection(const std::string& address, std::chrono::milliseconds delay) {
    const sockaddr_in target = Loopback(std::stoi(address.substr(address.rfind(':') + 1)));
    sockaddr_in own = Loopback(0);
    socklen_t size = sizeof(own);
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&own), size) != 0 ||
        listen(listener_, 8) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&own), &size) != 0) {
      std::abort();
    }
    address_ = "127.0.0.1:" + std::to_string(ntohs(own.sin_port));
    acceptor_ = std::thread([this, target, delay] {
      for (int client; (client = accept(listener_, nullptr, nullptr)) >= 0;) {
        std::this_thread::sleep_for(delay);
        const int service = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(service, reinterpret_cast<const sockaddr*>(&target), sizeof(target)) != 0)
          break;
        passers_.emplace_back([client, service] { Pass(client, service); });
        passers_.emplace_back([client, service] { Pass(service, client); });
      }
    });
  }
  ~SlowConnection() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& passer : passers_) passer.join();
    close(listener_);
  }
  SlowConnection(const SlowConnection&) = delete;
  SlowConnection& operator=(const SlowConnection&) = delete;

  const std::string& address() const { return address_; }

 private:
  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    return address;
  }

  static void Pass(int from, int to) {
    std::array<char, 4096> buffer;
    for (ssize_t n; (n = read(from, buffer.data(), buffer.size())) > 0;) {
      if (send(to, buffer.data(), static_cast<size_t>(n), MSG_NOSIGNAL) != n) break;
    }
    shutdown(to, SHUT_RDWR);
    shutdown(from, SHUT_RDWR);
  }

  int listener_ = -1;
  std::string address_;
  std::vector<std::thread> passers_;  ///< Made by the acceptor.
  std::thread acceptor_;
};

}  // namespace imageddpo

#pragma once

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace imageddpo {

/// What a run of build/bin/imageddpo writes on a terminal of this many columns, from start to end.
inline std::string OnTerminal(const std::vector<std::string>& arguments, unsigned short columns) {
  const std::string program = std::string(std::getenv("IMAGEDDPO_BIN_DIR")) + "/imageddpo";
  winsize size{};
  size.ws_row = 24;
  size.ws_col = columns;
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
  if (pid == 0) {
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(99);
  }
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(terminal, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
  }
  close(terminal);
  waitpid(pid, nullptr, 0);
  return text;
}

/// One run of build/bin/imageddpo, with its output in files. No terminal.
class ClientProgram {
 public:
  ClientProgram(const std::string& folder, const std::vector<std::string>& arguments,
                const std::string& environment = "")
      : out_file_(folder + "/stdout"), err_file_(folder + "/stderr") {
    const std::string program = std::string(std::getenv("IMAGEDDPO_BIN_DIR")) + "/imageddpo";
    pid_ = fork();
    if (pid_ != 0) return;
    if (environment.empty()) {
      unsetenv("IMAGEDDPO_ADDRESS");
    } else {
      setenv("IMAGEDDPO_ADDRESS", environment.c_str(), 1);
    }
    // Must not matter.
    for (const char* name : {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
                             "all_proxy", "grpc_proxy"}) {
      setenv(name, "http://127.0.0.1:1", 1);
    }
    dup2(open(out_file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
    dup2(open(err_file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execv(program.c_str(), argv.data());
    _exit(99);
  }
  ~ClientProgram() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  ClientProgram(const ClientProgram&) = delete;
  ClientProgram& operator=(const ClientProgram&) = delete;

  void Signal(int number) const { kill(pid_, number); }

  /// Its exit code; -1 where it was killed or has not ended after 60 s.
  int Wait() {
    for (int i = 0; i < 6000; ++i) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return -1;
  }

  std::string out() const { return Read(out_file_); }
  std::string err() const { return Read(err_file_); }

  /// Waits until standard output holds the text; false after 60 s.
  bool Shows(const std::string& text) const {
    for (int i = 0; i < 6000; ++i) {
      if (out().find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

 private:
  static std::string Read(const std::string& file) {
    std::ifstream stream(file);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }

  const std::string out_file_, err_file_;
  pid_t pid_ = -1;
};

}  // namespace imageddpo

#pragma once

#include <cstddef>
#include <ostream>
#include <string>

namespace imageddpo {

/// Lines that stay, and on a terminal one line at the bottom that changes. Not thread-safe.
class Screen {
 public:
  /// @param out  must outlive the object. @param is_terminal  false: only lines that stay.
  Screen(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  ~Screen();  ///< Takes the changing line away.
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  bool is_terminal() const { return is_terminal_; }
  /// Columns of the terminal of standard output; 80 where it does not say.
  static size_t TerminalWidth();

  void Line(const std::string& text);    ///< Stays. Empty text: nothing.
  void Status(const std::string& text);  ///< Replaces the changing line; empty: takes it away.

 private:
  std::ostream& out_;
  const bool is_terminal_;
  std::string status_;
};

}  // namespace imageddpo

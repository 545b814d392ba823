#include "deploy/imageddpo/text/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace imageddpo {
namespace {

constexpr char kClearLine[] = "\r\x1b[K";
constexpr size_t kUsualWidth = 80;

}  // namespace

Screen::~Screen() { Status(""); }

size_t Screen::TerminalWidth() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualWidth;
  return size.ws_col;
}

void Screen::Line(const std::string& text) {
  if (text.empty()) return;
  if (!status_.empty()) out_ << kClearLine;
  out_ << text << "\n" << status_ << std::flush;
}

void Screen::Status(const std::string& text) {
  if (!is_terminal_ || text == status_) return;
  out_ << kClearLine << text << std::flush;
  status_ = text;
}

}  // namespace imageddpo

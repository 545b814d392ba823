#include "deploy/imageddpo/text/terminal_picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

constexpr size_t kKittyChunk = 4096;
constexpr int kLevels = 6;  // Of each colour, where a palette is needed.
constexpr int kSixelRows = 6;

size_t RowsOf(const Image& image, size_t columns) {
  const double rows = static_cast<double>(columns) * image.height / image.width / 2;
  return std::max<size_t>(1, static_cast<size_t>(std::lround(rows)));
}

std::string Base64Png(const Image& image, size_t* size_bytes) {
  const absl::StatusOr<std::string> png = EncodePng(image);
  if (!png.ok()) return "";
  *size_bytes = png->size();
  return absl::Base64Escape(*png);
}

std::string KittyText(const Image& image, size_t columns) {
  size_t size_bytes = 0;
  const std::string data = Base64Png(image, &size_bytes);
  std::string text;
  for (size_t begin = 0; begin < data.size(); begin += kKittyChunk) {
    const bool is_last = begin + kKittyChunk >= data.size();
    // A picture in PNG, shown at once; errors are not answered.
    const std::string how =
        begin > 0 ? ""
                  : absl::StrCat("a=T,f=100,q=2,c=", columns, ",r=", RowsOf(image, columns), ",");
    absl::StrAppend(&text, "\x1b_G", how, "m=", is_last ? 0 : 1, ";",
                    data.substr(begin, kKittyChunk), "\x1b\\");
  }
  return text;
}

std::string ITermText(const Image& image, size_t columns) {
  size_t size_bytes = 0;
  const std::string data = Base64Png(image, &size_bytes);
  return absl::StrCat("\x1b]1337;File=inline=1;size=", size_bytes, ";width=", columns,
                      ";height=", RowsOf(image, columns), ":", data, "\a");
}

/// A pixel's place in a palette of kLevels³ colours.
int PaletteIndex(const std::array<int, 3>& levels) {
  return (levels[0] * kLevels + levels[1]) * kLevels + levels[2];
}

/// A pixel's colours there, nearest to its own.
std::array<int, 3> NearestLevels(const uint8_t* rgb) {
  std::array<int, 3> levels{};
  for (int c = 0; c < 3; ++c) levels[c] = (rgb[c] * (kLevels - 1) + 127) / 255;
  return levels;
}

/// The picture in these colours. What a pixel loses its neighbours get (Floyd and Steinberg).
std::vector<int> Dithered(const Image& image) {
  const int width = image.width, height = image.height;
  std::vector<float> values(image.rgb.begin(), image.rgb.end());
  std::vector<int> indices(static_cast<size_t>(width) * height);
  const auto add = [&](int x, int y, int c, float error) {
    if (x >= 0 && x < width && y < height) values[(size_t{1} * y * width + x) * 3 + c] += error;
  };
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      std::array<int, 3> levels{};
      for (int c = 0; c < 3; ++c) {
        const float wanted = values[(size_t{1} * y * width + x) * 3 + c];
        const auto level = static_cast<int>(std::lround(wanted * (kLevels - 1) / 255));
        levels[c] = std::clamp(level, 0, kLevels - 1);
        const float error = wanted - static_cast<float>(levels[c]) * 255 / (kLevels - 1);
        add(x + 1, y, c, error * 7 / 16);
        add(x - 1, y + 1, c, error * 3 / 16);
        add(x, y + 1, c, error * 5 / 16);
        add(x + 1, y + 1, c, error / 16);
      }
      indices[size_t{1} * y * width + x] = PaletteIndex(levels);
    }
  }
  return indices;
}

/// A row of sixels, six pixels high, of one colour.
std::string SixelRow(const std::vector<int>& indices, int width, int top, int bottom, int colour) {
  std::string row;
  for (int x = 0, run = 0; x < width; ++x) {
    const auto sixel = [&](int column) {
      int bits = 0;
      for (int y = top; y < bottom; ++y) {
        if (indices[size_t{1} * y * width + column] == colour) bits |= 1 << (y - top);
      }
      return static_cast<char>(63 + bits);
    };
    const char now = sixel(x);
    ++run;
    if (x + 1 < width && sixel(x + 1) == now) continue;
    if (run > 3) {
      absl::StrAppend(&row, "!", run, std::string(1, now));
    } else {
      row.append(static_cast<size_t>(run), now);
    }
    run = 0;
  }
  return row;
}

std::string SixelText(const Image& image) {
  const std::vector<int> indices = Dithered(image);
  std::string text = absl::StrCat("\x1bP0;1;0q\"1;1;", image.width, ";", image.height);
  for (int colour = 0; colour < kLevels * kLevels * kLevels; ++colour) {
    const auto percent = [](int level) { return 100 * level / (kLevels - 1); };
    absl::StrAppend(&text, "#", colour, ";2;", percent(colour / kLevels / kLevels), ";",
                    percent(colour / kLevels % kLevels), ";", percent(colour % kLevels));
  }
  for (int top = 0; top < image.height; top += kSixelRows) {
    const int bottom = std::min(top + kSixelRows, image.height);
    std::vector<int> colours(indices.begin() + size_t{1} * top * image.width,
                             indices.begin() + size_t{1} * bottom * image.width);
    std::sort(colours.begin(), colours.end());
    colours.erase(std::unique(colours.begin(), colours.end()), colours.end());
    for (const int colour : colours) {
      absl::StrAppend(&text, "#", colour, SixelRow(indices, image.width, top, bottom, colour), "$");
    }
    text += "-";
  }
  return text + "\x1b\\";
}

std::string BlocksText(const Image& image, size_t columns, bool has_true_colour) {
  const auto rows = RowsOf(image, columns);
  const Image small =
      Resize(image, static_cast<int>(columns), static_cast<int>(2 * rows), ResizeFilter::kBox);
  const auto colour = [&](size_t x, size_t y) {
    const uint8_t* const rgb = &small.rgb[(y * columns + x) * 3];
    if (has_true_colour) return absl::StrCat("2;", rgb[0], ";", rgb[1], ";", rgb[2]);
    return absl::StrCat("5;", 16 + PaletteIndex(NearestLevels(rgb)));
  };
  std::string text;
  for (size_t row = 0; row < rows; ++row) {
    if (row > 0) text += "\n";
    for (size_t x = 0; x < columns; ++x) {
      absl::StrAppend(&text, "\x1b[38;", colour(x, 2 * row), ";48;", colour(x, 2 * row + 1), "m▀");
    }
    text += "\x1b[0m";
  }
  return text;
}

}  // namespace

std::optional<PictureProtocol> ProtocolOf(const Environment& environment) {
  const std::string term = environment("TERM");
  if (term.empty() || term == "dumb") return std::nullopt;
  const bool is_within = !environment("TMUX").empty() || absl::StartsWith(term, "screen") ||
                         absl::StartsWith(term, "tmux");
  if (is_within) return PictureProtocol::kBlocks;
  const std::string program = environment("TERM_PROGRAM");
  if (!environment("KITTY_WINDOW_ID").empty() || term == "xterm-kitty" || term == "xterm-ghostty") {
    return PictureProtocol::kKitty;
  }
  if (program == "iTerm.app" || program == "WezTerm" || program == "mintty" ||
      environment("LC_TERMINAL") == "iTerm2") {
    return PictureProtocol::kITerm;
  }
  for (const char* name : {"foot", "mlterm", "contour", "yaft", "sixel"}) {
    if (absl::StrContains(term, name)) return PictureProtocol::kSixel;
  }
  return PictureProtocol::kBlocks;
}

std::optional<PictureProtocol> ProtocolNamed(const std::string& name,
                                             const Environment& environment) {
  if (name == "kitty") return PictureProtocol::kKitty;
  if (name == "iterm") return PictureProtocol::kITerm;
  if (name == "sixel") return PictureProtocol::kSixel;
  if (name == "blocks") return PictureProtocol::kBlocks;
  return name == "auto" ? ProtocolOf(environment) : std::nullopt;
}

std::string PictureText(const Image& image, PictureProtocol protocol, size_t columns,
                        bool has_true_colour) {
  switch (protocol) {
    case PictureProtocol::kKitty:
      return KittyText(image, columns);
    case PictureProtocol::kITerm:
      return ITermText(image, columns);
    case PictureProtocol::kSixel:
      return SixelText(image);
    case PictureProtocol::kBlocks:
      return BlocksText(image, columns, has_true_colour);
  }
  return "";
}

}  // namespace imageddpo

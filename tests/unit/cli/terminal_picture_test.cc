#include "deploy/imageddpo/text/terminal_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

/// Of colours that every palette has, in no order.
Image Colourful(int width, int height) {
  Image image{.width = width, .height = height, .rgb = {}};
  for (int i = 0; i < width * height; ++i) {
    for (const int channel : {i * 7 % 6, i * 5 % 4 + 1, i % 3 * 2}) {
      image.rgb.push_back(static_cast<uint8_t>(51 * channel));
    }
  }
  return image;
}

std::optional<PictureProtocol> Found(const std::map<std::string, std::string>& variables) {
  return ProtocolOf([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

TEST(TerminalPicture, TheTerminalIsKnownByItsEnvironment) {
  EXPECT_EQ(Found({{"TERM", "xterm-kitty"}}), PictureProtocol::kKitty);
  EXPECT_EQ(Found({{"TERM", "xterm-256color"}, {"KITTY_WINDOW_ID", "1"}}), PictureProtocol::kKitty);
  EXPECT_EQ(Found({{"TERM", "xterm-256color"}, {"TERM_PROGRAM", "iTerm.app"}}),
            PictureProtocol::kITerm);
  EXPECT_EQ(Found({{"TERM", "xterm-256color"}, {"LC_TERMINAL", "iTerm2"}}),
            PictureProtocol::kITerm);
  EXPECT_EQ(Found({{"TERM", "foot"}}), PictureProtocol::kSixel);
  EXPECT_EQ(Found({{"TERM", "xterm-256color"}}), PictureProtocol::kBlocks);
  EXPECT_EQ(Found({{"TERM", "tmux-256color"}, {"KITTY_WINDOW_ID", "1"}}), PictureProtocol::kBlocks);
  EXPECT_EQ(Found({{"TERM", "dumb"}}), std::nullopt);
  EXPECT_EQ(Found({}), std::nullopt);

  const auto kitty = [](const char* name) {
    return std::string(std::string(name) == "TERM" ? "xterm-kitty" : "");
  };
  EXPECT_EQ(ProtocolNamed("auto", kitty), PictureProtocol::kKitty);
  EXPECT_EQ(ProtocolNamed("sixel", kitty), PictureProtocol::kSixel);
  EXPECT_EQ(ProtocolNamed("none", kitty), std::nullopt);
}

TEST(TerminalPicture, ABlockIsTwoPixels) {
  const Image image{.width = 2, .height = 2, .rgb = {255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9}};
  EXPECT_EQ(PictureText(image, PictureProtocol::kBlocks, 2, /*has_true_colour=*/true),
            "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[38;2;0;255;0;48;2;9;9;9m▀\x1b[0m");
  EXPECT_EQ(PictureText(image, PictureProtocol::kBlocks, 2, /*has_true_colour=*/false),
            "\x1b[38;5;196;48;5;21m▀\x1b[38;5;46;48;5;16m▀\x1b[0m");
  // As wide as it is told to, and as high as its shape wants.
  const std::string tall = PictureText(Colourful(10, 40), PictureProtocol::kBlocks, 4, true);
  EXPECT_EQ(std::count(tall.begin(), tall.end(), '\n'), 7);
}

/// What is between `begin` and `end`, of all places; `begin` ends with the first `stop` after it.
std::string Payload(const std::string& text, const std::string& begin, char stop,
                    const std::string& end) {
  std::string all;
  for (size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at + 1)) {
    const size_t from = text.find(stop, at) + 1, to = text.find(end, from);
    EXPECT_LE(to - from, 4096u);
    all += text.substr(from, to - from);
  }
  return all;
}

TEST(TerminalPicture, KittyAndITermGetThePngItself) {
  Image image = Colourful(90, 60);
  for (size_t i = 0; i < image.rgb.size(); ++i) {  // So that it is longer than a chunk.
    image.rgb[i] = static_cast<uint8_t>(image.rgb[i] + i * i % 251);
  }
  const std::string kitty = PictureText(image, PictureProtocol::kKitty, 30, true);
  EXPECT_THAT(kitty, StartsWith("\x1b_Ga=T,f=100,q=2,c=30,r=10,m=1;"));
  EXPECT_THAT(kitty, HasSubstr("\x1b\\\x1b_Gm=0;"));
  std::string png;
  ASSERT_TRUE(absl::Base64Unescape(Payload(kitty, "\x1b_G", ';', "\x1b\\"), &png));
  EXPECT_EQ(DecodeImage(png, "kitty")->rgb, image.rgb);

  const Image small = Colourful(8, 8);
  const std::string iterm = PictureText(small, PictureProtocol::kITerm, 16, true);
  ASSERT_TRUE(absl::Base64Unescape(Payload(iterm, "\x1b]1337;File=", ':', "\a"), &png));
  EXPECT_EQ(DecodeImage(png, "iterm")->rgb, small.rgb);
  EXPECT_THAT(iterm, StartsWith(absl::StrCat("\x1b]1337;File=inline=1;size=", png.size(),
                                             ";width=16;height=8:")));
}

/// What a terminal makes of sixels.
Image Drawn(const std::string& text, int width, int height) {
  Image image{.width = width, .height = height, .rgb = {}};
  image.rgb.resize(static_cast<size_t>(width) * height * 3);
  std::map<long, std::array<long, 3>> palette;
  long colour = 0, run = 1;
  int x = 0, top = 0;
  const char* at = text.c_str() + text.find('q') + 1;
  const auto number = [&at] {
    char* end = nullptr;
    const long value = std::strtol(at + 1, &end, 10);
    at = end;
    return value;
  };
  for (; *at != '\0' && *at != '\x1b';) {
    if (*at == '"') {
      for (int i = 0; i < 4; ++i) number();
    } else if (*at == '#') {
      colour = number();
      if (*at != ';') continue;
      number();  // The kind of numbers: red, green and blue in percent.
      for (long& percent : palette[colour]) percent = number();
    } else if (*at == '!') {
      run = number();
    } else if (*at == '$' || *at == '-') {
      x = 0;
      if (*at++ == '-') top += 6;
    } else {
      const int bits = *at++ - 63;
      for (; run > 0; --run, ++x) {
        for (int y = 0; y < 6; ++y) {
          if ((bits >> y & 1) == 0) continue;
          if (x >= width || top + y >= height) {
            ADD_FAILURE() << "a pixel at " << x << ", " << top + y;
            return image;
          }
          for (int c = 0; c < 3; ++c) {
            const auto place = (static_cast<size_t>(top + y) * width + x) * 3 + c;
            image.rgb[place] = static_cast<uint8_t>(palette[colour][c] * 255 / 100);
          }
        }
      }
      run = 1;
    }
  }
  return image;
}

TEST(TerminalPicture, SixelsAreThePicture) {
  const Image image = Colourful(11, 8);
  const std::string text = PictureText(image, PictureProtocol::kSixel, 22, true);
  EXPECT_THAT(text, StartsWith("\x1bP0;1;0q\"1;1;11;8#0;2;0;0;0#1;2;0;0;20"));
  EXPECT_EQ(text.substr(text.size() - 2), "\x1b\\");
  EXPECT_EQ(Drawn(text, 11, 8).rgb, image.rgb);

  // A colour that is not in the palette: its neighbours make up for it.
  const Image grey{.width = 30, .height = 30, .rgb = std::vector<uint8_t>(2700, 120)};
  const Image drawn = Drawn(PictureText(grey, PictureProtocol::kSixel, 22, true), 30, 30);
  double sum = 0;
  for (const uint8_t value : drawn.rgb) sum += value;
  EXPECT_NEAR(sum / 2700, 120, 4);
}

}  // namespace
}  // namespace imageddpo

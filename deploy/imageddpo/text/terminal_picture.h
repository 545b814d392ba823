#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "common/io/image.h"

namespace imageddpo {

/// How a terminal shows a picture.
enum class PictureProtocol {
  kKitty,   ///< kitty's graphics protocol: kitty, Ghostty.
  kITerm,   ///< iTerm2's inline images: iTerm2, WezTerm, mintty.
  kSixel,   ///< DEC's sixels, in 216 colours: foot, mlterm, contour, xterm -ti vt340.
  kBlocks,  ///< A character ▀ for two pixels, in the terminal's colours: all others.
};

/// A value of an environment variable; empty: it is not set.
using Environment = std::function<std::string(const char* name)>;

/// What the terminal says of itself in its environment; nothing is asked of it. Within tmux and
/// screen, which pass no pictures on, it is kBlocks. Not set: a terminal that cannot do anything.
std::optional<PictureProtocol> ProtocolOf(const Environment& environment);

/// "kitty", "iterm", "sixel", "blocks" → the protocol; "none" → not set; "auto" → ProtocolOf().
std::optional<PictureProtocol> ProtocolNamed(const std::string& name,
                                             const Environment& environment);

/// What shows a picture where the cursor stands, without a newline at its end. It is as wide as so
/// many columns and as high as its shape asks for, if a character is twice as high as wide.
/// @param columns        at least 1.
/// @param has_true_colour  of kBlocks: 24-bit colours, else 216 of the terminal's 256.
std::string PictureText(const Image& image, PictureProtocol protocol, size_t columns,
                        bool has_true_colour);

}  // namespace imageddpo

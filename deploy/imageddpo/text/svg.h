#pragma once

#include <string>
#include <string_view>

// Pieces of SVG and HTML. Lengths are units of the picture's viewBox.
namespace imageddpo {

/// Text of unknown origin as content or as a quoted attribute of SVG or HTML.
std::string EscapeMarkup(std::string_view text);

/// @param anchor  start, middle or end: what of the text lies at x.
/// @param more    attributes, beginning with a blank.
std::string SvgText(double x, double y, const std::string& anchor, const std::string& text,
                    const std::string& more = "");

/// @param attributes  as stroke="#ddd" or class="grid".
std::string SvgLine(double x1, double y1, double x2, double y2, const std::string& attributes);

}  // namespace imageddpo

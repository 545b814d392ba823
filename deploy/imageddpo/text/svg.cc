#include "deploy/imageddpo/text/svg.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "common/base/text.h"

namespace imageddpo {

std::string EscapeMarkup(std::string_view text) {
  return absl::StrReplaceAll(
      Printable(text, /*keep_newlines=*/true),
      {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string SvgText(double x, double y, const std::string& anchor, const std::string& text,
                    const std::string& more) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>%s</text>\n", x, y,
                         anchor, more, EscapeMarkup(text));
}

std::string SvgLine(double x1, double y1, double x2, double y2, const std::string& attributes) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2,
                         y2, attributes);
}

}  // namespace imageddpo

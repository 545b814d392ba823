#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "common/base/text.h"
#include "deploy/imageddpo/report/document.h"
#include "deploy/imageddpo/text/format.h"
#include "deploy/imageddpo/text/svg.h"

namespace imageddpo {
namespace {

constexpr size_t kSparklineWidth = 32;

/// Text of unknown origin on one line, without anything that Markdown or HTML would act upon.
std::string Plain(const std::string& text) {
  std::string escaped;
  for (const char c : EscapeMarkup(OneLine(text))) {
    if (absl::string_view("\\`*_[]|~#@").find(c) != absl::string_view::npos) escaped += '\\';
    escaped += c;
  }
  // EscapeMarkup() has written &#39; for an apostrophe, which needs no escape here.
  return absl::StrReplaceAll(escaped, {{"&\\#39;", "'"}});
}

/// A fence that is longer than any run of backquotes in the text.
std::string FenceFor(const std::string& text) {
  size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return std::string(longest + 1, '`');
}

std::string Row(const std::vector<std::string>& cells) {
  return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |\n");
}

std::vector<std::string> PlainCells(const std::vector<std::string>& cells) {
  std::vector<std::string> plain;
  for (const std::string& cell : cells) plain.push_back(Plain(cell));
  return plain;
}

/// One block as Markdown, with an empty line after it.
struct Markdown {
  std::string operator()(const Paragraph& paragraph) const {
    const std::string text = Plain(paragraph.text);
    return paragraph.is_strong ? absl::StrCat("**", text, "**\n\n") : absl::StrCat(text, "\n\n");
  }
  std::string operator()(const Table& table) const {
    std::vector<std::string> titles, lines;
    for (const std::string& heading : table.headings) {
      const bool is_right = !heading.empty() && heading.back() == '#';
      titles.push_back(Plain(std::string(absl::StripSuffix(heading, "#"))));
      lines.emplace_back(is_right ? "---:" : "---");
    }
    std::string markdown = Row(titles) + Row(lines);
    for (const std::vector<std::string>& row : table.rows) markdown += Row(PlainCells(row));
    return markdown + "\n";
  }
  std::string operator()(const Plot& plot) const {
    Table table{.headings = {plot.title, "first#", "least#", "most#", "last#", "curve"},
                .rows = {}};
    for (const Curve& curve : plot.curves) {
      std::vector<double> values;
      for (const auto& [x, y] : curve.points) {
        if (std::isfinite(y)) values.push_back(y);
      }
      if (values.empty()) continue;
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      table.rows.push_back({curve.name, FormatNumber(values.front()), FormatNumber(*least),
                            FormatNumber(*most), FormatNumber(values.back()),
                            Sparkline(values, kSparklineWidth)});
    }
    return table.rows.empty() ? "" : (*this)(table);
  }
  std::string operator()(const Gallery& gallery) const {
    Table table{.headings = {"image"}, .rows = {}};
    table.headings.insert(table.headings.end(), gallery.columns.begin(), gallery.columns.end());
    for (const Gallery::Row& row : gallery.rows) {
      std::vector<std::string>& cells = table.rows.emplace_back();
      cells.push_back(row.label);
      for (const Gallery::Cell& cell : row.cells) cells.push_back(cell.note);
    }
    return (*this)(
               Paragraph{.text = "Markdown has no room for the pictures; a report in HTML does."}) +
           (*this)(table);
  }
  std::string operator()(const Code& code) const {
    const std::string text = Printable(code.text, /*keep_newlines=*/true);
    const std::string fence = FenceFor(text);
    return absl::StrCat("<details><summary>", EscapeMarkup(code.title), "</summary>\n\n", fence,
                        "\n", text, text.ends_with('\n') ? "" : "\n", fence, "\n\n</details>\n\n");
  }
  std::string operator()(const FoldedTable& table) const {
    return absl::StrCat("<details><summary>", EscapeMarkup(table.title), "</summary>\n\n",
                        (*this)(table.table), "</details>\n\n");
  }
};

}  // namespace

std::string RenderMarkdown(const Document& document) {
  std::string markdown =
      absl::StrCat("# ", Plain(document.title), "\n\n", Plain(document.subtitle), "\n\n");
  for (const Section& section : document.sections) {
    absl::StrAppend(&markdown, "## ", Plain(section.title), "\n\n");
    for (const Block& block : section.blocks) {
      absl::StrAppend(&markdown, std::visit(Markdown(), block));
    }
  }
  return markdown;
}

}  // namespace imageddpo

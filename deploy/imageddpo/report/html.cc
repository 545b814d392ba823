#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "deploy/imageddpo/report/document.h"
#include "deploy/imageddpo/text/svg.h"

namespace imageddpo {
namespace {

constexpr char kHead[] = R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<style>
:root { color-scheme: light dark; --ground: #fff; --text: #1c2024; --soft: #5b6570; --line: #d9dee3; --panel: #f5f7f9;
  --c0: #1f6fb4; --c1: #c8531c; --c2: #2d8a4e; --c3: #7b4fa3; --c4: #a3741a; --c5: #b03060; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181b; --text: #e4e8ec; --soft: #9aa5b0; --line: #333a41;
  --panel: #1d2125; --c0: #6ab0ea; --c1: #f08a58; --c2: #66c487; --c3: #b690dc; --c4: #d9ac58; --c5: #ea7fa6; } }
body { margin: 0 auto; max-width: 1160px; padding: 24px 20px 60px; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 19px; margin: 36px 0 10px; border-bottom: 1px solid var(--line); padding-bottom: 4px; }
p { margin: 8px 0; max-width: 80ch; }
.soft, figcaption, th { color: var(--soft); }
.strong { font-size: 18px; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 10px 0; }
th, td { text-align: left; vertical-align: top; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 18px; margin: 12px 0; }
figure { margin: 0; }
svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curve.c0 { stroke: var(--c0); } .curve.c1 { stroke: var(--c1); } .curve.c2 { stroke: var(--c2); }
.curve.c3 { stroke: var(--c3); } .curve.c4 { stroke: var(--c4); } .curve.c5 { stroke: var(--c5); }
.dot.c0 { fill: var(--c0); } .dot.c1 { fill: var(--c1); } .dot.c2 { fill: var(--c2); }
.dot.c3 { fill: var(--c3); } .dot.c4 { fill: var(--c4); } .dot.c5 { fill: var(--c5); }
.gallery img { display: block; width: 168px; height: auto; image-rendering: pixelated; }
.gallery td { border: 0; font-size: 13px; }
details { margin: 10px 0; }
summary { cursor: pointer; }
pre { background: var(--panel); padding: 12px; overflow-x: auto; font-size: 13px; overflow-wrap: normal; }
</style>
)";

bool IsRight(const std::string& heading) { return !heading.empty() && heading.back() == '#'; }

std::string Cells(const std::vector<std::string>& headings, const std::vector<std::string>& cells,
                  const std::string& tag) {
  std::string html = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i) {
    const bool is_right = i < headings.size() && IsRight(headings[i]);
    absl::StrAppend(&html, "<", tag, is_right ? " class=\"right\">" : ">", EscapeMarkup(cells[i]),
                    "</", tag, ">");
  }
  return absl::StrCat(html, "</tr>\n");
}

/// One block as HTML.
struct Html {
  std::string operator()(const Paragraph& paragraph) const {
    return absl::StrCat(paragraph.is_strong ? "<p class=\"strong\">" : "<p>",
                        EscapeMarkup(paragraph.text), "</p>\n");
  }
  std::string operator()(const Table& table) const {
    std::vector<std::string> titles;
    for (const std::string& heading : table.headings) {
      titles.emplace_back(absl::StripSuffix(heading, "#"));
    }
    std::string html = absl::StrCat("<div class=\"wide\"><table>\n<thead>",
                                    Cells(table.headings, titles, "th"), "</thead>\n<tbody>\n");
    for (const std::vector<std::string>& row : table.rows) {
      absl::StrAppend(&html, Cells(table.headings, row, "td"));
    }
    return absl::StrCat(html, "</tbody></table></div>\n");
  }
  std::string operator()(const Plot& plot) const {
    const std::string svg = PlotSvg(plot);
    if (svg.empty()) return "";
    return absl::StrCat("<figure><figcaption>", EscapeMarkup(plot.title), "</figcaption>\n", svg,
                        "</figure>\n");
  }
  std::string operator()(const Gallery& gallery) const {
    std::string html = "<div class=\"wide\"><table class=\"gallery\">\n<thead><tr><th></th>";
    for (const std::string& column : gallery.columns) {
      absl::StrAppend(&html, "<th>", EscapeMarkup(column), "</th>");
    }
    absl::StrAppend(&html, "</tr></thead>\n<tbody>\n");
    for (const Gallery::Row& row : gallery.rows) {
      absl::StrAppend(&html, "<tr><td>", EscapeMarkup(row.label), "</td>");
      for (size_t i = 0; i < row.cells.size(); ++i) {
        absl::StrAppend(&html, "<td>", Picture(row, i, gallery.columns),
                        EscapeMarkup(row.cells[i].note), "</td>");
      }
      absl::StrAppend(&html, "</tr>\n");
    }
    return absl::StrCat(html, "</tbody></table></div>\n");
  }
  std::string operator()(const Code& code) const {
    return Folded(code.title, absl::StrCat("<pre>", EscapeMarkup(code.text), "</pre>\n"));
  }
  std::string operator()(const FoldedTable& table) const {
    return Folded(table.title, (*this)(table.table));
  }

 private:
  static std::string Folded(const std::string& title, const std::string& content) {
    return absl::StrCat("<details><summary>", EscapeMarkup(title), "</summary>\n", content,
                        "</details>\n");
  }
  static std::string Picture(const Gallery::Row& row, size_t i,
                             const std::vector<std::string>& columns) {
    const std::string& png = row.cells[i].png;
    if (png.empty()) return "–";
    const std::string what = i < columns.size() ? columns[i] : "";
    return absl::StrCat("<img alt=\"", EscapeMarkup(absl::StrCat(row.label, ", ", what)),
                        "\" src=\"data:image/png;base64,", absl::Base64Escape(png), "\">");
  }
};

}  // namespace

std::string RenderHtml(const Document& document) {
  std::string html =
      absl::StrCat(kHead, "<title>", EscapeMarkup(document.title),
                   "</title>\n</head>\n<body>\n<h1>", EscapeMarkup(document.title),
                   "</h1>\n<p class=\"soft\">", EscapeMarkup(document.subtitle), "</p>\n");
  for (const Section& section : document.sections) {
    absl::StrAppend(&html, "<section>\n<h2>", EscapeMarkup(section.title), "</h2>\n");
    bool in_plots = false;  // Plots that follow each other share a grid.
    for (const Block& block : section.blocks) {
      const bool is_plot = std::holds_alternative<Plot>(block);
      if (is_plot && !in_plots) absl::StrAppend(&html, "<div class=\"plots\">\n");
      if (!is_plot && in_plots) absl::StrAppend(&html, "</div>\n");
      in_plots = is_plot;
      absl::StrAppend(&html, std::visit(Html(), block));
    }
    absl::StrAppend(&html, in_plots ? "</div>\n" : "", "</section>\n");
  }
  return absl::StrCat(html, "</body>\n</html>\n");
}

}  // namespace imageddpo

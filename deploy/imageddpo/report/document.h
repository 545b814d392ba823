#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

// A report as its content alone: ComposeReport() makes it, RenderHtml() and RenderMarkdown() show
// it. All texts are plain and of any origin; the renderers escape them.
namespace imageddpo {

struct Paragraph {
  std::string text;
  bool is_strong = false;
};

/// Columns whose heading ends in "#" (which is not shown) are aligned to the right.
struct Table {
  std::vector<std::string> headings;
  std::vector<std::vector<std::string>> rows;
};

/// One line of a plot. Values that are not finite are gaps.
struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< x, in rising order, and y.
  std::vector<double> errors;                     ///< Of each y, for error bars; empty: none.
};

struct Plot {
  std::string title;
  std::string x_label;
  std::vector<Curve> curves;  ///< A legend names them where there are several.
};

/// Pictures in rows.
struct Gallery {
  struct Cell {
    std::string png;   ///< The file's content; empty: there is none.
    std::string note;  ///< Below it; may be empty.
  };
  struct Row {
    std::string label;
    std::vector<Cell> cells;  ///< One for each column.
  };
  std::vector<std::string> columns;
  std::vector<Row> rows;
};

/// Text with its line ends, as a job file; folded away behind its title.
struct Code {
  std::string title;
  std::string text;
};

/// A table that is folded away behind its title.
struct FoldedTable {
  std::string title;
  Table table;
};

using Block = std::variant<Paragraph, Table, Plot, Gallery, Code, FoldedTable>;

struct Section {
  std::string title;
  std::vector<Block> blocks;
};

struct Document {
  std::string title;
  std::string subtitle;
  std::vector<Section> sections;
};

/// One HTML file that needs nothing else: pictures and plots are in it, no script, light and dark
/// as the reader's system is.
std::string RenderHtml(const Document& document);

/// GitHub's Markdown, for a pull request. It can hold no pictures, so curves are sparklines with
/// their numbers, and of galleries only the notes are there.
std::string RenderMarkdown(const Document& document);

/// A plot as SVG, with the classes that RenderHtml() has colours for; empty without a finite value.
std::string PlotSvg(const Plot& plot);

}  // namespace imageddpo

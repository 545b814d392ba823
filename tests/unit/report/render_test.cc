#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deploy/imageddpo/report/document.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// A document in which every text would do harm if it were not escaped.
Document Hostile() {
  const std::string bad = "<script>alert('x')</script> | `code` \"q\" \x1b[31m";
  return {
      .title = bad,
      .subtitle = bad,
      .sections = {
          {.title = bad,
           .blocks = {Paragraph{.text = bad, .is_strong = true},
                      Table{.headings = {bad, "n#"}, .rows = {{bad, "1"}}},
                      Plot{.title = bad,
                           .x_label = bad,
                           .curves = {{.name = bad, .points = {{0, 1}, {1, 2}}},
                                      {.name = "two", .points = {{0, 2}}}}},
                      Gallery{.columns = {bad, "after"},
                              .rows = {{.label = bad, .cells = {{"PNG", bad}, {"", "none"}}}}},
                      Code{.title = bad, .text = bad + "\n```\n"},
                      FoldedTable{.title = bad, .table = {.headings = {"a"}, .rows = {{bad}}}}}}}};
}

TEST(RenderHtml, EscapesEveryText) {
  const std::string html = RenderHtml(Hostile());
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("\x1b")));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; | `code` &quot;q"));
}

TEST(RenderHtml, NeedsNothingElse) {
  const std::string html = RenderHtml(Hostile());
  EXPECT_THAT(html, testing::StartsWith("<!doctype html>"));
  EXPECT_THAT(html, testing::EndsWith("</html>\n"));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme: dark"));
  for (const char* link : {"http://", "https://", "<link", "<iframe", "@import", "url("}) {
    EXPECT_THAT(html, Not(HasSubstr(link)));
  }
  EXPECT_THAT(html, HasSubstr("src=\"data:image/png;base64,UE5H\""));  // "PNG".
}

TEST(RenderHtml, PutsPlotsThatFollowEachOtherIntoOneGrid) {
  const Plot plot{.title = "t", .x_label = "x", .curves = {{.name = "a", .points = {{0, 1}}}}};
  const std::string html = RenderHtml(
      {.title = "t",
       .subtitle = "",
       .sections = {{.title = "s", .blocks = {plot, plot, Paragraph{.text = "p"}, plot}}}});
  size_t grids = 0;
  for (size_t at = html.find("<div class=\"plots\">"); at != std::string::npos;
       at = html.find("<div class=\"plots\">", at + 1)) {
    ++grids;
  }
  EXPECT_EQ(grids, 2U);
  EXPECT_THAT(html, HasSubstr("</figure>\n</div>\n<p>p</p>\n<div class=\"plots\">"));
  EXPECT_THAT(html, HasSubstr("</figure>\n</div>\n</section>"));
}

TEST(RenderMarkdown, EscapesEveryText) {
  const std::string markdown = RenderMarkdown(Hostile());
  EXPECT_THAT(markdown,
              HasSubstr("# &lt;script&gt;alert('x')&lt;/script&gt; \\| \\`code\\` &quot;q"));
  // Only in the fence, which shows text as it is, with a longer run of backquotes than it holds.
  EXPECT_EQ(markdown.find("<script"), markdown.rfind("<script"));
  EXPECT_THAT(markdown, HasSubstr("\n````\n<script"));
  EXPECT_THAT(markdown, Not(HasSubstr("\x1b")));
}

TEST(RenderMarkdown, ShowsCurvesAsSparklines) {
  const std::string markdown = RenderMarkdown(
      {.title = "t",
       .subtitle = "s",
       .sections = {{.title = "Curves",
                     .blocks = {Plot{
                         .title = "Reward",
                         .x_label = "x",
                         .curves = {{.name = "reward", .points = {{0, 1}, {1, 8}, {2, 4}}}}}}}}});
  EXPECT_EQ(markdown,
            "# t\n\ns\n\n## Curves\n\n"
            "| Reward | first | least | most | last | curve |\n"
            "| --- | ---: | ---: | ---: | ---: | --- |\n"
            "| reward | 1 | 1 | 8 | 4 | ▁█▄ |\n\n");
}

}  // namespace
}  // namespace imageddpo

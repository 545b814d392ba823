#include "rollout/data/listing/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Row = std::vector<std::string>;

std::vector<Row> Rows(const std::string& text, char delimiter = ',') {
  CsvReader reader(text, delimiter);
  std::vector<Row> rows;
  while (true) {
    absl::StatusOr<Row> row = reader.Next();
    EXPECT_TRUE(row.ok()) << row.status();
    if (!row.ok() || row->empty()) return rows;
    rows.push_back(*std::move(row));
  }
}

TEST(Csv, ReadsWhatTheStandardAllows) {
  EXPECT_THAT(Rows("a,b\r\n1,2\r\n"), ElementsAre(Row{"a", "b"}, Row{"1", "2"}));
  EXPECT_THAT(Rows("a,b\n\n\r\n1,"), ElementsAre(Row{"a", "b"}, Row{"1", ""}));
  EXPECT_THAT(Rows(",\n"), ElementsAre(Row{"", ""}));
  EXPECT_THAT(Rows("\"a, \"\"b\"\"\r\nc\",d\n\"\",x"),
              ElementsAre(Row{"a, \"b\"\r\nc", "d"}, Row{"", "x"}));
  EXPECT_THAT(Rows("a;b,c", ';'), ElementsAre(Row{"a", "b,c"}));
  EXPECT_THAT(Rows("a \"quote\" within,b"), ElementsAre(Row{"a \"quote\" within", "b"}));
  EXPECT_THAT(Rows(""), ElementsAre());
}

TEST(Csv, KnowsTheLineInWhichARowBegins) {
  CsvReader reader("a\n\"two\nlines\"\n\nb\n\"open", ',');
  std::vector<int> lines;
  for (int i = 0; i < 4; ++i) {
    const bool ok = reader.Next().ok();
    EXPECT_EQ(ok, i < 3);
    lines.push_back(reader.line());
  }
  EXPECT_THAT(lines, ElementsAre(1, 2, 5, 6));
}

TEST(Csv, RefusesQuotesThatDoNotMatch) {
  EXPECT_THAT(std::string(CsvReader("\"a\" b,c", ',').Next().status().message()),
              HasSubstr("written twice"));
  EXPECT_THAT(std::string(CsvReader("\"a", ',').Next().status().message()),
              HasSubstr("never closed"));
}

}  // namespace
}  // namespace imageddpo

// docs/metrics.md compared with names.h.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/metrics/epoch_metrics.h"

namespace imageddpo {
namespace {

struct Row {
  std::string kind, labels;
};

std::map<std::string, Row> Rows() {
  std::ifstream stream(std::string(std::getenv("IMAGEDDPO_SOURCE_DIR")) + "/docs/metrics.md");
  EXPECT_TRUE(stream);
  std::map<std::string, Row> rows;
  for (std::string line; std::getline(stream, line);) {
    if (!absl::StartsWith(line, "| `imageddpo_")) continue;
    const std::vector<std::string> cells = absl::StrSplit(line.substr(2), '|');
    const std::string name(cells[0].substr(1, cells[0].size() - 3));
    rows[name] = {std::string(absl::StripAsciiWhitespace(cells[1])),
                  std::string(absl::StripAsciiWhitespace(cells[2]))};
  }
  return rows;
}

TEST(MetricsPage, HasEveryMetricWithItsKindAndLabelsAndNoOther) {
  std::map<std::string, Row> rows = Rows();
  for (const metric::Info* info : AllMetrics()) {
    const std::string name(info->name);
    ASSERT_TRUE(rows.contains(name)) << name << " is not in docs/metrics.md";
    const char* kind = info->kind == metric::Kind::kGauge     ? "gauge"
                       : info->kind == metric::Kind::kCounter ? "counter"
                                                              : "histogram";
    EXPECT_EQ(rows[name].kind, kind) << name;
    std::vector<std::string> labels;
    for (const std::string& label : std::vector<std::string>(
             absl::StrSplit(std::string(info->labels), ',', absl::SkipEmpty()))) {
      if (label != "job_id" && label != "job_name") labels.push_back(absl::StrCat("`", label, "`"));
    }
    EXPECT_EQ(rows[name].labels, absl::StrJoin(labels, ", ")) << name;
    rows.erase(name);
  }
  for (const auto& [name, unused] : rows) ADD_FAILURE() << name << " is no metric";
}

}  // namespace
}  // namespace imageddpo

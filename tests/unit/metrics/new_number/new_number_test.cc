// A number of an epoch that was added to copies of the sources as CONTRIBUTING.md says
// (add_number.py): rows, epochs and Prometheus have it without another change.
#include <gtest/gtest.h>

#include <algorithm>

#include "common/metrics/epoch_metrics.h"

namespace imageddpo {
namespace {

v1::EpochMetrics UpdateWith(double entropy) {
  v1::EpochMetrics update;
  update.set_epoch(3);
  update.set_entropy(entropy);
  return update;
}

TEST(NewNumber, IsInARow) { EXPECT_EQ(RowOf(UpdateWith(2.5)).at("entropy"), 2.5); }

TEST(NewNumber, AnEpochHasTheMeanOfItsUpdates) {
  EXPECT_EQ(OfUpdates({UpdateWith(1), UpdateWith(4)}).entropy(), 2.5);
}

TEST(NewNumber, PrometheusShowsIt) {
  const auto table = EpochMetricTable();
  const auto metric = std::find_if(table.begin(), table.end(), [](const EpochMetric& row) {
    return row.info.name == "imageddpo_job_entropy";
  });
  ASSERT_NE(metric, table.end());
  double shown = 0;
  ForEachValue(UpdateWith(2.5), *metric, [&](const std::string& label, double value) {
    EXPECT_EQ(label, "");
    shown = value;
  });
  EXPECT_EQ(shown, 2.5);
  const auto all = AllMetrics();
  EXPECT_TRUE(std::any_of(all.begin(), all.end(), [](const metric::Info* info) {
    return info->name == "imageddpo_job_entropy";
  }));
}

}  // namespace
}  // namespace imageddpo

#include "cli/table.h"

#include <gtest/gtest.h>

namespace kerf::cli {
namespace {

TEST(Table, NumbersAreFlushRightAndWordsLeftWhateverTheirBytes) {
  Table table({"metric", "value"});
  table.add({"latency, µs", "9.5"});
  table.add({"accuracy", "91.35 %"});
  EXPECT_EQ(table.text(),
            "metric         value\n"
            "--------------------\n"
            "latency, µs      9.5\n"
            "accuracy     91.35 %\n");
}

TEST(Table, MetricsHaveTheDigitsThatSuitThem) {
  EXPECT_EQ(human_metric("accuracy", 0.91355), "91.36 %");
  EXPECT_EQ(human_metric("latency_p50_us", 226.41), "226.4");
  EXPECT_EQ(human_metric("latency_p50_us", 1.766), "1.77") << "a difference of 5 % has to be seen";
  EXPECT_EQ(human_metric("storage_bytes", 1234567), "1.23 M");
}

}  // namespace
}  // namespace kerf::cli

#include "workers/measure/intervals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace kerf::measure {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

constexpr double kTight = 1e-9;

TEST(Intervals, WilsonEqualsPublishedAndIndependentValues) {
  // Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 gives the first four to four
  // digits (0.2553–0.3662, 0.0624–0.1605, 0–0.1611, 0.0061–0.1718); all digits are SciPy 1.17.1's,
  // binomtest(k, n).proportion_ci(method="wilson").
  struct Row {
    std::int64_t k, n;
    double low, high;
  };
  const Row rows[] = {{81, 263, 0.2552885198782742, 0.36620957698280004},
                      {15, 148, 0.06238639953073629, 0.16048724172330803},
                      {0, 20, 0.0, 0.16112515805281935},
                      {1, 29, 0.006113214292762667, 0.17175521879320282},
                      {987, 1000, 0.9778855576244203, 0.9923871796106489},
                      {20, 20, 0.8388748419471808, 1.0}};
  for (const Row& row : rows) {
    EXPECT_THAT(wilson_interval(row.k, row.n),
                ElementsAre(DoubleNear(row.low, kTight), DoubleNear(row.high, kTight)))
        << row.k << " of " << row.n;
  }
}

TEST(Intervals, WilsonOfNothingIsEverything) {
  EXPECT_THAT(wilson_interval(0, 0), ElementsAre(0, 1));
}

TEST(Intervals, PairedDifferenceEqualsPublishedAndIndependentValues) {
  // {1, 7, 21}: airway hyper-responsiveness before and after transplantation, −0.517 to −0.026 in
  // Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33:2850. All digits: the statistic with
  // its likelihood maximised numerically, inverted with SciPy 1.17.1's brentq.
  struct Row {
    std::int64_t b, c, n;
    double low, high;
  };
  const Row rows[] = {{1, 7, 21, -0.5172322772704422, -0.02600303033252848},
                      {40, 20, 160, 0.03086453283723331, 0.218064243365976},
                      {12, 9, 1000, -0.006506305686156955, 0.01293693163088304},
                      {3, 0, 500, -0.0016700867021898628, 0.01749025210405893}};
  constexpr double kOfMaximiser = 1e-7;
  for (const Row& row : rows) {
    EXPECT_THAT(paired_difference_interval(row.b, row.c, row.n),
                ElementsAre(DoubleNear(row.low, kOfMaximiser), DoubleNear(row.high, kOfMaximiser)))
        << row.b << ", " << row.c << " of " << row.n;
  }
}

TEST(Intervals, EqualAnswersStillLeaveDoubt) {
  const Interval none = paired_difference_interval(0, 0, 500);
  const double expected = kZ95 * kZ95 / (500 + kZ95 * kZ95);
  EXPECT_NEAR(none[0], -expected, 1e-9);
  EXPECT_NEAR(none[1], expected, 1e-9);
}

TEST(Intervals, PairedDifferenceIsSymmetric) {
  const Interval one = paired_difference_interval(9, 4, 77);
  const Interval other = paired_difference_interval(4, 9, 77);
  EXPECT_NEAR(one[0], -other[1], 1e-9);
  EXPECT_NEAR(one[1], -other[0], 1e-9);
}

TEST(Intervals, MedianRanksEqualTheBinomialQuantiles) {
  // From 1, as SciPy 1.17.1's binom.cdf gives them.
  struct Row {
    std::size_t n, low, high;
  };
  const Row rows[] = {{6, 1, 6},       {7, 1, 7},         {10, 2, 9},         {30, 10, 21},
                      {50, 18, 33},    {100, 40, 61},     {999, 469, 531},    {1000, 469, 532},
                      {1001, 470, 532}, {5000, 2431, 2570}};
  for (const Row& row : rows) {
    EXPECT_THAT(median_ranks(row.n), ElementsAre(row.low - 1, row.high - 1)) << row.n;
  }
  EXPECT_THAT(median_ranks(5), ElementsAre(0, 4)) << "too few for 95 %: all of them";
  EXPECT_THAT(median_ranks(1), ElementsAre(0, 0));
  EXPECT_THAT(median_ranks(100, 2), ElementsAre(28, 71));
  EXPECT_THAT(median_ranks(100, 100), ElementsAre(0, 99));
}

double coverage(std::size_t count, double memory, std::uint64_t seed) {
  // A skewed, heavy-tailed time series: exp of an AR(1) series; its median is 1.
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  int covered = 0;
  constexpr int kTrials = 2000;
  for (int trial = 0; trial < kTrials; ++trial) {
    double state = normal(random);
    std::vector<double> values;
    for (std::size_t i = 0; i < count; ++i) {
      state = memory * state + std::sqrt(1 - memory * memory) * normal(random);
      values.push_back(std::exp(state));
    }
    const Interval interval = estimate_median(values).ci95;
    covered += interval[0] <= 1 && 1 <= interval[1] ? 1 : 0;
  }
  return static_cast<double>(covered) / kTrials;
}

TEST(Intervals, MedianIntervalCoversSkewedNoise) {
  // 2000 trials: ± 0.01 is two standard deviations around 0.95; exact ranks cover at least that.
  for (const std::size_t count : {7U, 30U, 101U}) {
    EXPECT_GE(coverage(count, 0, 11), 0.94) << count;
  }
  EXPECT_LE(coverage(101, 0, 12), 0.985) << "not needlessly wide";
}

TEST(Intervals, MedianIntervalWidensForNoiseThatRemembers) {
  EXPECT_GE(coverage(200, 0.6, 13), 0.92);
}

TEST(Intervals, DependenceInflationIsOneForIndependentValuesAndGrowsWithMemory) {
  std::vector<double> alternating;
  std::vector<double> blocks;
  for (int i = 0; i < 100; ++i) {
    alternating.push_back(i % 2);
    blocks.push_back(i / 25 % 2);
  }
  EXPECT_EQ(dependence_inflation(alternating), 1);
  EXPECT_GT(dependence_inflation(blocks), 3);
  EXPECT_EQ(dependence_inflation(std::vector<double>(100, 5.0)), 1);
}

TEST(Intervals, QuantilesAreNumPysDefault) {
  // numpy.quantile([1, 2, 4, 8, 16], q), NumPy 2.4.6.
  const std::vector<double> values = {1, 2, 4, 8, 16};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 0.1), 1.4);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 4);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 12.8);
  EXPECT_DOUBLE_EQ(quantile(values, 0.99), 15.68);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 16);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

}  // namespace
}  // namespace kerf::measure

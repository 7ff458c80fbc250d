#include "workers/measure/mean_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

namespace kerf::measure {
namespace {

using Verdict = MeanTest::Verdict;

struct Losses {
  int samples;
  int lost;    ///< Right in the baseline alone.
  int gained;  ///< Right in the candidate alone.
};

std::vector<double> values_of(const Losses& losses) {
  std::vector<double> values(static_cast<std::size_t>(losses.samples), 0.0);
  std::fill_n(values.begin(), losses.lost, 1.0);
  std::fill_n(values.begin() + losses.lost, losses.gained, -1.0);
  return values;
}

struct Stopped {
  int above = 0;
  double mean_samples = 0;  ///< Until the end or the verdict.
};

Stopped run(const Losses& losses, double limit, double alpha, int runs, std::mt19937_64& random) {
  std::vector<double> values = values_of(losses);
  Stopped out;
  for (int r = 0; r < runs; ++r) {
    std::shuffle(values.begin(), values.end(), random);
    MeanTest test(-1, 1, limit, losses.samples, alpha);
    std::size_t used = 0;
    while (used < values.size() && test.verdict() == Verdict::kOpen) test.add(values[used++]);
    out.above += test.verdict() == Verdict::kAbove ? 1 : 0;
    out.mean_samples += static_cast<double>(used) / runs;
  }
  return out;
}

/// The same with Hoeffding's inequality at every sample, alpha spent as 6/(π²t²).
double hoeffding_samples(const Losses& losses, double limit, double alpha, int runs, std::mt19937_64& random) {
  std::vector<double> values = values_of(losses);
  double mean_samples = 0;
  for (int r = 0; r < runs; ++r) {
    std::shuffle(values.begin(), values.end(), random);
    double sum = 0;
    std::size_t used = 0;
    while (used < values.size()) {
      sum += values[used++];
      const auto t = static_cast<double>(used);
      const double spent = alpha * 6 / (std::numbers::pi * std::numbers::pi * t * t);
      if (sum / t - limit > 2 * std::sqrt(std::log(1 / spent) / (2 * t))) break;
    }
    mean_samples += static_cast<double>(used) / runs;
  }
  return mean_samples;
}

TEST(MeanTest, CallsAMeanAtItsLimitAboveAtMostAsOftenAsPromised) {
  constexpr std::uint64_t kSeed = 1;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  constexpr int kRuns = 4000;
  // Means exactly at the limit of 2 %, from few and from many changed samples; and one below it.
  for (const Losses losses : {Losses{2000, 40, 0}, {2000, 100, 60}, {2000, 400, 360}, {500, 10, 0}, {300, 36, 30}, {2000, 35, 5}}) {
    for (const double alpha : {0.05, 0.01, 0.001}) {
      const Stopped stopped = run(losses, 0.02, alpha, kRuns, random);
      // Three deviations of a count whose expectation is alpha·runs.
      EXPECT_LE(stopped.above, alpha * kRuns + 3 * std::sqrt(alpha * kRuns))
          << losses.lost << " lost, " << losses.gained << " gained of " << losses.samples << ", alpha " << alpha;
    }
  }
}

TEST(MeanTest, FindsAllThatAreAboveLongBeforeTheEnd) {
  std::mt19937_64 random(2);
  constexpr double kAlpha = 0.001;
  const auto samples = [&](const Losses& losses) {
    const Stopped stopped = run(losses, 0.02, kAlpha, 400, random);
    EXPECT_EQ(stopped.above, 400);  // at the latest the last sample says so
    return stopped.mean_samples;
  };
  EXPECT_LT(samples({2000, 1420, 20}), 30);  // 70 % lost
  EXPECT_LT(samples({2000, 620, 20}), 70);   // 30 %
  EXPECT_LT(samples({2000, 220, 20}), 280);  // 10 %
  EXPECT_LT(samples({2000, 120, 20}), 850);  // 5 %
  EXPECT_LT(samples({2000, 60, 0}), 1400);   // 3 %
}

TEST(MeanTest, NeedsAFractionOfWhatHoeffdingNeeds) {
  std::mt19937_64 random(3);
  for (const Losses losses : {Losses{2000, 620, 20}, {2000, 1420, 20}}) {
    EXPECT_LT(2.5 * run(losses, 0.02, 0.001, 200, random).mean_samples, hoeffding_samples(losses, 0.02, 0.001, 200, random));
  }
  // Hoeffding sees nothing of a loss of 10 % in all 2,000 samples.
  EXPECT_EQ(hoeffding_samples({2000, 220, 20}, 0.02, 0.001, 200, random), 2000);
}

TEST(MeanTest, IsCertainWhereTheRestCannotChangeIt) {
  MeanTest all(0, 1, 0.5, 10, 1e-9);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(all.add(1), Verdict::kOpen) << i;
  EXPECT_EQ(all.add(1), Verdict::kAbove);
  EXPECT_EQ(all.seen(), 6);
  MeanTest none(0, 1, 0.5, 10, 1e-9);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(none.add(0), Verdict::kOpen) << i;
  EXPECT_EQ(none.add(0), Verdict::kNotAbove);
  EXPECT_EQ(none.add(1), Verdict::kNotAbove);
}

TEST(MeanTest, EqualToTheLimitIsNotAbove) {
  // 40 of 2,000 is 0.02, whatever rounding makes of it.
  for (const int population : {50, 2000, 9999, 50000}) {
    MeanTest test(-1, 1, 0.02, population, 1e-12);
    const int lost = population / 50;
    for (int i = 0; i < population; ++i) test.add(i < population - lost ? 0 : 1);
    EXPECT_NE(test.verdict(), Verdict::kAbove) << population;
  }
}

TEST(MeanTest, LimitOutsideOfTheValuesIsDecidedAtOnce) {
  EXPECT_EQ(MeanTest(0, 1, -0.1, 10, 0.01).verdict(), Verdict::kAbove);
  EXPECT_EQ(MeanTest(0, 1, 1, 10, 0.01).verdict(), Verdict::kNotAbove);
}

}  // namespace
}  // namespace kerf::measure

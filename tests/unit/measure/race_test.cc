#include "workers/measure/race.h"

#include <gmock/gmock.h>

#include <random>

namespace kerf::measure {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

SampleVerdict sample(bool right, bool baseline_right = true) {
  SampleVerdict out;
  out.labelled = out.compared = true;
  out.right = right;
  out.baseline_right = baseline_right;
  out.among_top5 = right;
  out.agreement = right == baseline_right ? 1 : 0;
  return out;
}

/// Where the race is lost, of 1,000 samples, every k-th of which the candidate gets wrong; 0 = never.
std::int64_t lost_at(Race& race, int every) {
  for (std::int64_t n = 1; n <= 1000; ++n) {
    race.add(sample(n % every != 0));
    if (!race.lost().empty()) return n;
  }
  return 0;
}

RacingTerms with_rivals() {
  RacingTerms terms;
  terms.quality_metric = "accuracy_drop";
  terms.rivals = {{3, 0.01, {{"storage_bytes", 100}, {"latency_p50_us", 20}}},
                  {8, 0.05, {{"storage_bytes", 50}, {"latency_p50_us", 10}}}};
  return terms;
}

TEST(Race, IsLostByBreakingALimit) {
  RacingTerms terms;
  terms.limits = {{"accuracy_drop", 0.02}};
  Race poor(terms, {}, 1000);
  const auto at = lost_at(poor, 4);
  EXPECT_GT(at, 10);
  EXPECT_LT(at, 120);
  EXPECT_THAT(poor.lost(), HasSubstr("accuracy_drop is surely above 0.02, the study's limit ("));
  EXPECT_THAT(poor.lost(), HasSubstr(" of 1000 samples)"));
  Race good(terms, {}, 1000);
  EXPECT_EQ(lost_at(good, 60), 0);
}

TEST(Race, OnSharesIsLostBelowThem) {
  for (const char* metric : {"agreement", "top5"}) {
    RacingTerms terms;
    terms.limits = {{metric, 0.95}};
    Race race(terms, {}, 1000);
    EXPECT_GT(lost_at(race, 3), 10) << metric;
    EXPECT_THAT(race.lost(), HasSubstr("is surely below 0.95"));
  }
}

TEST(Race, OnlyRivalsThatAreAsGoodInEverythingElseCount) {
  KnownCosts costs;
  costs.metrics = {{"storage_bytes", 120}};
  costs.least_latency_us = 25;
  Race beaten_by_the_better(with_rivals(), costs, 1000);
  EXPECT_GT(lost_at(beaten_by_the_better, 20), 0);  // 5 % lost: trial 3 loses 1 % and costs less
  EXPECT_THAT(beaten_by_the_better.lost(), HasSubstr("above 0.01, trial 3 of the front"));

  costs.metrics["storage_bytes"] = 80;  // smaller than trial 3; trial 8 loses 5 % as well
  Race beaten_by_none(with_rivals(), costs, 1000);
  EXPECT_EQ(lost_at(beaten_by_none, 20), 0);
  Race beaten_by_the_smaller(with_rivals(), costs, 1000);
  EXPECT_GT(lost_at(beaten_by_the_smaller, 4), 0);
  EXPECT_THAT(beaten_by_the_smaller.lost(), HasSubstr("trial 8"));

  costs.least_latency_us = 5;  // may be faster than both
  Race open(with_rivals(), costs, 1000);
  EXPECT_EQ(lost_at(open, 2), 0);
}

TEST(Race, WithoutABoundOfTheTimeNobodyIsARival) {
  KnownCosts costs;
  costs.metrics = {{"storage_bytes", 1000}};
  Race race(with_rivals(), costs, 1000);
  EXPECT_EQ(lost_at(race, 2), 0);
}

TEST(Race, SamplesThatSayNothingOfAMetricDontCountForIt) {
  RacingTerms terms;
  terms.limits = {{"accuracy_drop", 0.02}};
  Race race(terms, {}, 1000);
  for (int n = 0; n < 1000; ++n) race.add({});
  EXPECT_THAT(race.lost(), IsEmpty());
}

TEST(Race, StopsOneThatKeepsAllLimitsAtMostAsOftenAsPromised) {
  std::mt19937_64 random(7);
  RacingTerms terms;
  terms.alpha = 0.05;
  terms.limits = {{"accuracy_drop", 0.05}, {"agreement", 0.95}, {"top5", 0.95}};
  std::vector<SampleVerdict> samples(1000, sample(true));
  std::fill_n(samples.begin(), 50, sample(false));  // at every limit at once
  int stopped = 0;
  constexpr int kRuns = 1000;
  for (int run = 0; run < kRuns; ++run) {
    std::shuffle(samples.begin(), samples.end(), random);
    Race race(terms, {}, 1000);
    for (const SampleVerdict& one : samples) race.add(one);
    stopped += race.lost().empty() ? 0 : 1;
  }
  EXPECT_LE(stopped, 50 + 3 * 7);
}

}  // namespace
}  // namespace kerf::measure

#include "search/pareto.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>

namespace kerf::search {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Direction kMin = Direction::kMinimize;
constexpr Direction kMax = Direction::kMaximize;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(Pareto, DominanceFollowsEachObjectivesDirection) {
  const std::vector<Direction> directions = {kMax, kMin};
  EXPECT_TRUE(dominates(std::vector{0.9, 10.0}, std::vector{0.8, 10.0}, directions));
  EXPECT_TRUE(dominates(std::vector{0.9, 9.0}, std::vector{0.9, 10.0}, directions));
  EXPECT_FALSE(dominates(std::vector{0.9, 11.0}, std::vector{0.8, 10.0}, directions));
  EXPECT_FALSE(dominates(std::vector{0.8, 10.0}, std::vector{0.9, 10.0}, directions));
}

TEST(Pareto, EqualPointsDontDominateEachOther) {
  const std::vector<Direction> directions = {kMin, kMin};
  EXPECT_FALSE(dominates(std::vector{1.0, 2.0}, std::vector{1.0, 2.0}, directions));
  const std::vector<ObjectiveVector> twins = {{1, 2}, {1, 2}, {2, 3}};
  EXPECT_THAT(non_dominated(twins, directions), ElementsAre(0, 1));
}

TEST(Pareto, PointsThatAreMissingOrNotFiniteNeverRank) {
  const std::vector<Direction> directions = {kMin, kMin};
  const std::vector<ObjectiveVector> points = {{}, {kNan, 0}, {-kInf, 0}, {1, kInf}, {5, 5}, {1}};
  EXPECT_THAT(non_dominated(points, directions), ElementsAre(4));
  EXPECT_FALSE(dominates(points[2], points[4], directions));
  EXPECT_FALSE(dominates(points[4], points[1], directions));
}

TEST(Pareto, FrontEqualsTheOneOfThePlainDefinition) {
  std::mt19937 random(7);
  for (std::size_t dimensions = 1; dimensions <= 5; ++dimensions) {
    std::vector<Direction> directions;
    for (std::size_t d = 0; d < dimensions; ++d) directions.push_back(d % 2 == 0 ? kMin : kMax);
    for (int round = 0; round < 30; ++round) {
      // A coarse grid gives ties and equal points.
      std::uniform_int_distribution<int> value(0, round % 2 == 0 ? 3 : 50);
      std::vector<ObjectiveVector> points(60, ObjectiveVector(dimensions));
      for (auto& point : points) {
        for (double& x : point) x = value(random);
      }
      std::vector<std::size_t> expected;
      for (std::size_t i = 0; i < points.size(); ++i) {
        const bool beaten = std::any_of(points.begin(), points.end(), [&](const auto& other) {
          return dominates(other, points[i], directions);
        });
        if (!beaten) expected.push_back(i);
      }
      EXPECT_EQ(non_dominated(points, directions), expected) << dimensions << "-D, round " << round;
    }
  }
}

TEST(Pareto, OnlyFeasibleCandidatesMakeAFront) {
  const std::vector<Direction> directions = {kMin, kMin};
  const std::vector<Candidate> candidates = {
      {{1, 1}, {0.5}},   // best, but not allowed
      {{2, 3}, {0.0}},   // just allowed
      {{3, 2}, {-1.0}},
      {{4, 4}, {-1.0}},
      {{0, 0}, {kNan}},  // a bound that nobody could check isn't kept
  };
  const Selection selection = select(candidates, directions);
  EXPECT_THAT(selection.front, ElementsAre(1, 2));
  EXPECT_FALSE(selection.nearest_miss.has_value());
}

TEST(Pareto, NearestMissIsNamedWhereNothingIsFeasible) {
  const std::vector<Direction> directions = {kMin};
  const std::vector<Candidate> candidates = {
      {{1}, {0.5, 0.5}}, {{2}, {0.25, -9}}, {{3}, {0.25, 0}}, {{}, {0.01}}};
  const Selection selection = select(candidates, directions);
  EXPECT_THAT(selection.front, IsEmpty());
  EXPECT_EQ(selection.nearest_miss, 1U);
  EXPECT_DOUBLE_EQ(selection.least_violation, 0.25);
}

TEST(Pareto, ViolationsOfDifferentUnitsAreAddedAsSharesOfTheirBounds) {
  // A drop of at most 0.02 and at most 1,000 µs: 1 % too slow is less than twice the drop.
  const std::vector<Direction> directions = {kMin};
  const std::vector<double> scales = {bound_scale(0.02), bound_scale(1000)};
  const std::vector<Candidate> candidates = {{{1}, {0.02, 0}}, {{2}, {0.001, 10}}, {{3}, {0, 200}}};
  EXPECT_EQ(select(candidates, directions).nearest_miss, 0U) << "in raw units the latency drowns the drop";
  const Selection selection = select(candidates, directions, scales);
  EXPECT_EQ(selection.nearest_miss, 1U);
  EXPECT_NEAR(selection.least_violation, 0.05 + 0.01, 1e-12);
  EXPECT_EQ(bound_scale(-5), 5);
  EXPECT_EQ(bound_scale(0), 1);
}

TEST(Pareto, NoisyPointIsDroppedOnlyWhereTheDifferenceIsLargerThanTheInterval) {
  const std::vector<Direction> directions = {kMax, kMin};
  const UncertainPoint base = {{0.90, 100}, {{0.89, 0.91}, {98, 102}}};
  UncertainPoint other = {{0.89, 110}, {{0.88, 0.90}, {108, 112}}};
  EXPECT_FALSE(surely_dominates(base, other, directions));  // accuracy differs by less than noise
  other.objectives[0] = 0.87;
  other.intervals[0] = {0.86, 0.88};
  EXPECT_TRUE(surely_dominates(base, other, directions));
  EXPECT_FALSE(surely_dominates(other, base, directions));
  EXPECT_THAT(possibly_non_dominated(std::vector{base, other}, directions), ElementsAre(0));
}

TEST(Pareto, ExactPointsNeedNoMoreThanPlainDominance) {
  const std::vector<Direction> directions = {kMin, kMin};
  const UncertainPoint a = {{1, 2}, {}};
  const UncertainPoint b = {{1, 3}, {{1, 1}, {3, 3}}};
  EXPECT_TRUE(surely_dominates(a, b, directions));
  EXPECT_FALSE(surely_dominates(a, a, directions));
  EXPECT_THAT(possibly_non_dominated(std::vector{a, b, a}, directions), ElementsAre(0, 2));
}

TEST(Pareto, NoiseNeverShrinksTheFront) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> value(0, 1);
  const std::vector<Direction> directions = {kMin, kMax, kMin};
  std::vector<UncertainPoint> noisy(80);
  std::vector<ObjectiveVector> plain;
  for (auto& point : noisy) {
    for (int d = 0; d < 3; ++d) {
      const double x = value(random);
      point.objectives.push_back(x);
      point.intervals.push_back({x - 0.1 * value(random), x + 0.1 * value(random)});
    }
    plain.push_back(point.objectives);
  }
  const auto wide = possibly_non_dominated(noisy, directions);
  for (const std::size_t i : non_dominated(plain, directions)) {
    EXPECT_THAT(wide, testing::Contains(i));
  }
}

}  // namespace
}  // namespace kerf::search

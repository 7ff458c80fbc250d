// What every Sampler promises (search/sampler.h), checked on every sampler by name.

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "search/random.h"
#include "search/sampler.h"

namespace kerf::search {
namespace {

using testing::ElementsAreArray;

SamplerProblem problem(std::int64_t dimensions, std::int64_t choices, std::int64_t seed = 1) {
  SamplerProblem out;
  for (std::int64_t d = 0; d < dimensions; ++d) {
    out.dimensions.push_back({"layer" + std::to_string(d), choices, d % 2 == 0});
  }
  out.directions = {Direction::kMaximize, Direction::kMinimize};
  out.constraint_count = 1;
  out.seed = seed;
  return out;
}

/// A smooth made-up trade: later choices cost accuracy and save bytes, some layers more than others.
Observation outcome(std::int64_t number, const Choices& choices) {
  Observation out;
  out.number = number;
  out.choices = choices;
  double accuracy = 1;
  double bytes = 0;
  for (std::size_t d = 0; d < choices.size(); ++d) {
    const double step = choices[d];
    accuracy -= step * step * 0.002 * static_cast<double>(1 + d % 5);
    bytes += 100.0 * static_cast<double>(1 + d % 3) / (1 + step);
  }
  out.objectives = {accuracy, bytes};
  out.constraints = {0.7 - accuracy};
  return out;
}

Observation ended(std::int64_t number, const Choices& choices, TrialState state) {
  Observation out;
  out.number = number;
  out.choices = choices;
  out.state = state;
  return out;
}

class SamplerConformance : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto probe = make_sampler(GetParam(), problem(3, 3));
    if (!probe.has_value()) {
      // Optuna's process, or a module that this sampler needs, isn't on this machine.
      ASSERT_THAT(probe.error().code, testing::AnyOf(ErrorCode::kUnavailable,
                                                     ErrorCode::kFailedPrecondition));
      GTEST_SKIP() << probe.error().message;
    }
  }

  static std::unique_ptr<Sampler> make(SamplerProblem what) {
    auto sampler = make_sampler(GetParam(), std::move(what));
    EXPECT_TRUE(sampler.has_value()) << sampler.error().message;
    return std::move(*sampler);
  }

  static std::vector<Choices> ask(Sampler& sampler, std::int64_t count) {
    auto points = sampler.ask(count);
    EXPECT_TRUE(points.has_value()) << points.error().message;
    return points.has_value() ? *points : std::vector<Choices>();
  }

  /// Asks for `batch` at a time, and tells each batch's outcomes in reverse order.
  static std::vector<Choices> run(Sampler& sampler, int trials, int batch) {
    std::vector<Choices> all;
    while (static_cast<int>(all.size()) < trials) {
      const auto points = ask(sampler, batch);
      if (points.empty()) break;
      const auto first = static_cast<std::int64_t>(all.size());
      all.insert(all.end(), points.begin(), points.end());
      for (auto i = static_cast<std::int64_t>(points.size()) - 1; i >= 0; --i) {
        const auto told = sampler.tell(outcome(first + i, points[static_cast<std::size_t>(i)]));
        EXPECT_TRUE(told.has_value()) << told.error().message;
      }
    }
    return all;
  }
};

TEST_P(SamplerConformance, ProposesPointsOfTheSpace) {
  const SamplerProblem what = problem(6, 4);
  const auto sampler = make(what);
  for (const Choices& point : run(*sampler, 40, 4)) {
    ASSERT_EQ(point.size(), what.dimensions.size());
    for (const int choice : point) {
      EXPECT_GE(choice, 0);
      EXPECT_LT(choice, 4);
    }
  }
}

TEST_P(SamplerConformance, NeverProposesTheSameTwice) {
  const auto sampler = make(problem(4, 3));
  const auto points = run(*sampler, 70, 5);
  EXPECT_EQ(points.size(), 70U);
  EXPECT_EQ(std::set<Choices>(points.begin(), points.end()).size(), points.size());
}

TEST_P(SamplerConformance, BatchIsWhatSingleQuestionsWouldGive) {
  SamplerProblem what = problem(8, 4);
  what.anchors = {Choices(8, 0), Choices(8, 1)};
  const auto whole = make(what);
  const auto single = make(what);
  std::int64_t number = 0;
  for (int round = 0; round < 6; ++round) {
    const auto batch = ask(*whole, 5);
    ASSERT_EQ(batch.size(), 5U);
    for (const Choices& point : batch) EXPECT_THAT(ask(*single, 1), testing::ElementsAre(point)) << "round " << round;
    for (std::size_t i = 0; i < 4; ++i, ++number) {  // one stays in flight
      ASSERT_TRUE(whole->tell(outcome(number, batch[i])).has_value());
      ASSERT_TRUE(single->tell(outcome(number, batch[i])).has_value());
    }
  }
}

TEST_P(SamplerConformance, SameSeedGivesTheSameProposals) {
  const auto first = make(problem(8, 4, 3));
  const auto second = make(problem(8, 4, 3));
  const auto other = make(problem(8, 4, 4));
  const auto points = run(*first, 50, 3);
  EXPECT_THAT(run(*second, 50, 3), ElementsAreArray(points));
  EXPECT_NE(run(*other, 50, 3), points);
}

TEST_P(SamplerConformance, ResumedStudyProposesWhatAnUninterruptedOneWould) {
  SamplerProblem what = problem(8, 4);
  what.anchors = {Choices(8, 0), Choices(8, 1)};
  const auto whole = make(what);
  std::vector<Observation> history;
  std::vector<Choices> waiting;
  std::int64_t number = 0;
  // Four in flight; each time the oldest but one ends, now and then badly.
  std::map<Choices, std::int64_t> numbers;
  const auto step = [&](Sampler& sampler) {
    const auto points = ask(sampler, 1);
    for (const Choices& point : points) {
      numbers[point] = number++;
      waiting.push_back(point);
    }
    if (waiting.size() < 4) return;
    const Choices done = waiting[1];
    waiting.erase(waiting.begin() + 1);
    const std::int64_t n = numbers[done];
    history.push_back(n % 9 == 5   ? ended(n, done, TrialState::kFailed)
                      : n % 9 == 7 ? ended(n, done, TrialState::kPruned)
                                   : outcome(n, done));
    EXPECT_TRUE(sampler.tell(history.back()).has_value());
  };
  for (int i = 0; i < 57; ++i) step(*whole);
  const auto resumed = make(what);
  for (const Observation& observation : history) {
    ASSERT_TRUE(resumed->tell(observation).has_value());
  }
  for (const Choices& choices : waiting) resumed->mark_pending(choices);
  for (int i = 0; i < 6; ++i) {
    const auto expected = ask(*whole, 1);
    EXPECT_THAT(ask(*resumed, 1), ElementsAreArray(expected)) << "step " << i;
    ASSERT_EQ(expected.size(), 1U);
    const Observation told = outcome(number++, expected[0]);
    ASSERT_TRUE(whole->tell(told).has_value());
    ASSERT_TRUE(resumed->tell(told).has_value());
  }
}

TEST_P(SamplerConformance, AnchorsComeFirstAndInOrder) {
  SamplerProblem what = problem(5, 4);
  what.anchors = {Choices(5, 0), Choices(5, 2), Choices(5, 1)};
  const auto sampler = make(what);
  const auto points = run(*sampler, 10, 2);
  ASSERT_GE(points.size(), 3U);
  EXPECT_THAT(std::vector<Choices>(points.begin(), points.begin() + 3),
              ElementsAreArray(what.anchors));
}

TEST_P(SamplerConformance, ForeignTrialsAreTakenInAndNotRepeated) {
  const SamplerProblem what = problem(4, 3);
  const auto sampler = make(what);
  Rng random({99});
  std::set<Choices> foreign;
  for (int n = 0; n < 40; ++n) {
    Choices choices;
    for (int d = 0; d < 4; ++d) choices.push_back(static_cast<int>(random.below(3)));
    if (!foreign.insert(choices).second) continue;
    ASSERT_TRUE(sampler->tell(outcome(n, choices)).has_value());
  }
  for (const Choices& point : ask(*sampler, 20)) EXPECT_FALSE(foreign.contains(point));
}

TEST_P(SamplerConformance, PendingPointsAreNotProposed) {
  const SamplerProblem what = problem(2, 3);
  const auto sampler = make(what);
  std::set<Choices> pending;
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 2; ++b) {
      sampler->mark_pending({a, b});
      pending.insert({a, b});
    }
  }
  const auto points = ask(*sampler, 9);
  EXPECT_EQ(points.size(), 3U);
  for (const Choices& point : points) EXPECT_FALSE(pending.contains(point));
}

TEST_P(SamplerConformance, ExhaustsASmallSpace) {
  const auto sampler = make(problem(3, 3));
  EXPECT_EQ(run(*sampler, 100, 4).size(), 27U);
  EXPECT_TRUE(ask(*sampler, 5).empty());
  EXPECT_TRUE(ask(*sampler, 1).empty());
}

TEST_P(SamplerConformance, CandidatesThatMeanTheSameAreProposedOnce) {
  SamplerProblem what = problem(4, 3);
  what.fingerprint = [](const Choices& choices) {
    // As a calibration range where nothing is quantized: the last one counts only beside the first.
    return std::to_string(choices[0]) + std::to_string(choices[1]) +
           std::to_string(choices[0] == 0 ? 0 : choices[2]) +
           std::to_string(choices[0] == 0 ? 0 : choices[3]);
  };
  const auto sampler = make(what);
  const auto points = run(*sampler, 200, 6);
  EXPECT_EQ(points.size(), 3U + 2U * 27U);
}

TEST_P(SamplerConformance, FailedAndPrunedTrialsAreFine) {
  const auto sampler = make(problem(6, 4));
  std::int64_t number = 0;
  for (int round = 0; round < 12; ++round) {
    const auto points = ask(*sampler, 3);
    ASSERT_EQ(points.size(), 3U);
    ASSERT_TRUE(sampler->tell(ended(number++, points[0], TrialState::kFailed)).has_value());
    ASSERT_TRUE(sampler->tell(ended(number++, points[1], TrialState::kPruned)).has_value());
    ASSERT_TRUE(sampler->tell(outcome(number++, points[2])).has_value());
  }
}

TEST_P(SamplerConformance, OnlyFailuresAreFine) {
  const auto sampler = make(problem(6, 4));
  for (std::int64_t number = 0; number < 40; ++number) {
    const auto points = ask(*sampler, 1);
    ASSERT_EQ(points.size(), 1U);
    ASSERT_TRUE(sampler->tell(ended(number, points[0], TrialState::kFailed)).has_value());
  }
}

TEST_P(SamplerConformance, NothingFeasibleAndEqualOutcomesAreFine) {
  const auto sampler = make(problem(6, 4));
  for (std::int64_t number = 0; number < 60; ++number) {
    const auto points = ask(*sampler, 1);
    ASSERT_EQ(points.size(), 1U);
    Observation same = outcome(number, points[0]);
    same.objectives = {0.5, 100};
    same.constraints = {1};
    ASSERT_TRUE(sampler->tell(same).has_value());
  }
}

TEST_P(SamplerConformance, TellingAgainChangesNothing) {
  const auto sampler = make(problem(6, 4));
  const auto twin = make(problem(6, 4));
  const auto points = ask(*sampler, 6);
  EXPECT_EQ(ask(*twin, 6), points);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Observation told = outcome(static_cast<std::int64_t>(i), points[i]);
    ASSERT_TRUE(sampler->tell(told).has_value());
    ASSERT_TRUE(sampler->tell(told).has_value());
    ASSERT_TRUE(twin->tell(told).has_value());
  }
  EXPECT_EQ(ask(*sampler, 4), ask(*twin, 4));
}

TEST_P(SamplerConformance, FiftyDimensionsAndFourObjectivesWork) {
  SamplerProblem what = problem(50, 5);
  what.directions = {Direction::kMaximize, Direction::kMinimize, Direction::kMinimize,
                     Direction::kMinimize};
  what.constraint_count = 2;
  if (GetParam() == "optuna-bruteforce") {
    const auto refused = make_sampler(GetParam(), what);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("8.88e+34 points; expected at most 65536"));
    return;
  }
  const auto sampler = make(what);
  std::set<Choices> seen;
  for (std::int64_t number = 0; number < 60; ++number) {
    const auto points = ask(*sampler, 1);
    ASSERT_EQ(points.size(), 1U);
    EXPECT_TRUE(seen.insert(points[0]).second);
    Observation told = outcome(number, points[0]);
    told.objectives.push_back(points[0][7]);
    told.objectives.push_back(points[0][9] + points[0][11]);
    told.constraints.push_back(-1);
    ASSERT_TRUE(sampler->tell(told).has_value());
  }
}

TEST_P(SamplerConformance, OneObjectiveWithoutConstraintsWorks) {
  SamplerProblem what = problem(5, 4);
  what.directions = {Direction::kMinimize};
  what.constraint_count = 0;
  const auto sampler = make(what);
  for (std::int64_t number = 0; number < 40; ++number) {
    const auto points = ask(*sampler, 1);
    ASSERT_EQ(points.size(), 1U);
    Observation told = outcome(number, points[0]);
    told.objectives.resize(1);
    told.constraints.clear();
    ASSERT_TRUE(sampler->tell(told).has_value());
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& parameter) {
  std::string name = parameter.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

/// What optuna-gp needs is large and seldom there: its tests are one test of ctest's.
std::vector<std::string> light_samplers() {
  std::vector<std::string> names = sampler_names();
  std::erase(names, "optuna-gp");
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, SamplerConformance, testing::ValuesIn(light_samplers()), test_name);
INSTANTIATE_TEST_SUITE_P(Heavy, SamplerConformance, testing::Values("optuna-gp"), test_name);

TEST(Samplers, UnknownNameIsRefusedWithTheKnownOnes) {
  const auto sampler = make_sampler("simulated-annealing", problem(2, 2));
  ASSERT_FALSE(sampler.has_value());
  EXPECT_EQ(sampler.error().code, ErrorCode::kInvalidArgument);
  for (const std::string& name : sampler_names()) {
    EXPECT_THAT(sampler.error().message, testing::HasSubstr(name));
  }
}

}  // namespace
}  // namespace kerf::search

#include "search/front.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <random>

#include "search/hypervolume.h"

namespace kerf::search {
namespace {

using testing::ElementsAre;

StudyDefinition study() {
  auto parsed = StudyDefinition::parse(Json::parse(R"({
    "model": "m.onnx", "data": "d.npz",
    "objectives": [{"metric": "accuracy"}, {"metric": "storage_bytes"}],
    "constraints": [{"metric": "accuracy_drop", "max": 0.1}]})"));
  EXPECT_TRUE(parsed.has_value());
  return *parsed;
}

Trial trial(std::int64_t number, double accuracy, double bytes,
            TrialState state = TrialState::kComplete) {
  Trial out;
  out.number = number;
  out.state = state;
  if (state == TrialState::kComplete) {
    out.measurement = {{"accuracy", accuracy},
                       {"accuracy_drop", 0.9 - accuracy},
                       {"storage_bytes", bytes},
                       {"hardware", {{"id", "abc"}}}};
  }
  return out;
}

const std::vector<double> kReference = {0.8, 110};

std::vector<std::int64_t> numbers(const Front& front) {
  std::vector<std::int64_t> out;
  for (const FrontMember& member : front.members) out.push_back(member.trial);
  return out;
}

TEST(Front, HasTheFeasibleBestAndItsHistory) {
  const std::vector<Trial> trials = {
      trial(0, 0.90, 100),
      trial(1, 0.85, 50),
      trial(2, 0.80, 50),                       // dominated
      trial(3, 0.50, 10),                       // loses too much
      trial(4, 0, 0, TrialState::kFailed),
      trial(5, 0, 0, TrialState::kRunning),
      trial(6, 0.90, 70),
  };
  const Front result = front(trials, study(), kReference);
  EXPECT_THAT(numbers(result), ElementsAre(6, 1));
  EXPECT_FALSE(result.nearest_miss.has_value());
  ASSERT_EQ(result.history.size(), 6U);  // all that ended
  EXPECT_NEAR(result.history[0].hypervolume, 0.1 * 10, 1e-12);
  EXPECT_NEAR(result.history[1].hypervolume, 0.1 * 10 + 0.05 * 50, 1e-12);
  EXPECT_EQ(result.history[4].hypervolume, result.history[1].hypervolume);
  EXPECT_EQ(result.history[5].trial, 6);
  EXPECT_NEAR(result.hypervolume, 0.1 * 40 + 0.05 * 20, 1e-12);
  EXPECT_NEAR(result.members[0].contribution, 0.05 * 40, 1e-12);
}

Trial noisy(std::int64_t number, double drop, double half, double bytes) {
  Trial out = trial(number, 0.9 - drop, bytes);
  out.measurement["accuracy_ci95"] = {0.0, 1.0};  // of the accuracy alone: much too wide to compare by
  out.measurement["accuracy_drop_ci95"] = {drop - half, drop + half};
  return out;
}

TEST(Front, KeepsAndNamesWhatIsBeatenByLessThanTheNoise) {
  const std::vector<Trial> trials = {
      noisy(0, 0, 0, 100),
      noisy(1, 0.010, 0.004, 50),
      noisy(2, 0.014, 0.004, 50),  // 0.004 below trial 1, and the noise of that is 0.0057
      noisy(3, 0.020, 0.004, 50),  // surely worse
      noisy(4, 0.012, 0.004, 60),  // larger for sure, but it may be more accurate
      trial(5, 0.3, 5),            // not feasible
      trial(6, 0, 0, TrialState::kPruned),
  };
  const Front result = front(trials, study(), kReference);
  EXPECT_THAT(numbers(result), ElementsAre(0, 1));
  ASSERT_EQ(result.tied.size(), 2U);
  EXPECT_EQ(result.tied[0].trial, 2);
  EXPECT_THAT(result.tied[0].with, ElementsAre(1));
  EXPECT_EQ(result.tied[1].trial, 4);
  EXPECT_THAT(result.tied[1].with, ElementsAre(1));
}

TEST(Front, TrialThatLacksAMetricNeverRanks) {
  std::vector<Trial> trials = {trial(0, 0.9, 100), trial(1, 0.99, 10), trial(2, 0.99, 10)};
  trials[1].measurement.erase("storage_bytes");
  trials[2].measurement.erase("accuracy_drop");
  const Front result = front(trials, study(), kReference);
  EXPECT_THAT(numbers(result), ElementsAre(0));
  EXPECT_TRUE(result.tied.empty());
  EXPECT_FALSE(result.nearest_miss.has_value());
}

TEST(Front, NamesTheNearestMissWhereNothingIsFeasible) {
  const std::vector<Trial> trials = {trial(3, 0.5, 10), trial(7, 0.7, 10)};
  const Front result = front(trials, study(), kReference);
  EXPECT_TRUE(result.members.empty());
  EXPECT_EQ(result.nearest_miss, 7);
  EXPECT_NEAR(result.least_violation, 0.1 / 0.1, 1e-9);
  EXPECT_EQ(result.hypervolume, 0);
}

TEST(Front, NearestMissWeighsBoundsBySizeNotByUnit) {
  const auto parsed = StudyDefinition::parse(Json::parse(R"({"model": "m", "data": "d",
      "objectives": [{"metric": "accuracy", "direction": "maximize"}],
      "constraints": [{"metric": "accuracy_drop", "max": 0.02}, {"metric": "storage_bytes", "max": 1000}]})"));
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const std::vector<Trial> trials = {trial(0, 0.10, 1001), trial(1, 0.87, 1100)};
  const Front result = front(trials, *parsed, std::vector{0.0});
  EXPECT_EQ(result.nearest_miss, 1);
  EXPECT_NEAR(result.least_violation, 0.5 + 0.1, 1e-9);
}

TEST(Front, KeepsEqualTrials) {
  const std::vector<Trial> trials = {trial(1, 0.85, 50), trial(2, 0.85, 50)};
  const Front result = front(trials, study(), kReference);
  EXPECT_THAT(numbers(result), ElementsAre(1, 2));
  EXPECT_EQ(result.members[0].contribution, 0);
}

TEST(Front, OfNoTrialsIsEmpty) {
  const Front result = front({}, study(), kReference);
  EXPECT_TRUE(result.members.empty());
  EXPECT_TRUE(result.history.empty());
}

TEST(FrontTracker, EqualsTheHypervolumeOfAllAtEveryStep) {
  std::mt19937 random(5);
  std::uniform_int_distribution<int> value(0, 20);
  const std::vector<Direction> directions = {Direction::kMaximize, Direction::kMinimize,
                                             Direction::kMinimize};
  const std::vector<double> reference = {0, 21, 21};
  FrontTracker tracker(directions, reference);
  std::vector<ObjectiveVector> all;
  double before = 0;
  for (int n = 0; n < 120; ++n) {
    Observation observation;
    observation.number = n;
    for (int d = 0; d < 3; ++d) observation.objectives.push_back(value(random));
    all.push_back(observation.objectives);
    const bool grew = tracker.add(observation);
    EXPECT_EQ(grew, tracker.hypervolume() > before);
    before = tracker.hypervolume();
    EXPECT_NEAR(before, hypervolume(all, directions, reference), 1e-9);
    EXPECT_EQ(tracker.trials().size(), non_dominated(all, directions).size());
  }
}

TEST(Front, KnowsTheHardwareOfATrial) {
  EXPECT_EQ(hardware_id(trial(0, 0.9, 1)), "abc");
  EXPECT_EQ(hardware_id(trial(0, 0, 0, TrialState::kFailed)), "");
}

}  // namespace
}  // namespace kerf::search

#include "search/observe.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace kerf::search {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;

StudyDefinition two_objectives() {
  auto parsed = StudyDefinition::parse(Json::parse(R"({
    "model": "m.onnx", "data": "d.npz",
    "objectives": [{"metric": "accuracy"}, {"metric": "latency_p50_us"}],
    "constraints": [{"metric": "accuracy_drop", "max": 0.02},
                    {"metric": "storage_bytes", "max": 1000, "min": 10}]})"));
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  return *parsed;
}

Json measurement() {
  return {{"accuracy", 0.97}, {"accuracy_ci95", {0.96, 0.98}}, {"latency_p50_us", 50.0},
          {"latency_ci95_us", {49.0, 52.0}}, {"accuracy_drop", 0.01}, {"storage_bytes", 400}};
}

Trial measured_trial(TrialState state) {
  Trial trial;
  trial.number = 4;
  trial.choices = {1, 2};
  trial.state = state;
  trial.measurement = measurement();
  return trial;
}

TEST(Observe, ReadsObjectivesInOrderAndBoundsAsDistances) {
  const Outcome outcome = observe(two_objectives(), measurement());
  EXPECT_TRUE(outcome.complete());
  EXPECT_THAT(outcome.objectives, ElementsAre(0.97, 50));
  EXPECT_THAT(outcome.constraints, ElementsAre(DoubleEq(-0.01), DoubleEq(-600), DoubleEq(-390)));
  EXPECT_THAT(outcome.intervals, ElementsAre(std::array{0.96, 0.98}, std::array{49.0, 52.0}));
  EXPECT_EQ(bound_count(two_objectives()), 3);
  EXPECT_THAT(directions_of(two_objectives()), ElementsAre(Direction::kMaximize, Direction::kMinimize));
}

TEST(Observe, NamesEachMissingMetricOnce) {
  Json lacking = measurement();
  lacking.erase("storage_bytes");
  lacking["accuracy"] = nullptr;
  const Outcome outcome = observe(two_objectives(), lacking);
  EXPECT_FALSE(outcome.complete());
  EXPECT_THAT(outcome.missing, ElementsAre("accuracy", "storage_bytes"));
  EXPECT_TRUE(std::isnan(outcome.objectives[0]));
  EXPECT_TRUE(std::isnan(outcome.constraints[2]));
}

TEST(Observe, IntervalOfAccuracyIsThatOfItsDropWhereThatIsKnown) {
  Json paired = measurement();
  paired["accuracy_drop_ci95"] = {0.007, 0.014};
  const Outcome outcome = observe(two_objectives(), paired);
  EXPECT_THAT(outcome.intervals[0], ElementsAre(DoubleEq(0.98 - 0.014), DoubleEq(0.98 - 0.007)));
}

TEST(Observe, IntervalOfACrossEntropyIsThatOfItsRise) {
  StudyDefinition study = two_objectives();
  study.objectives[0] = {"cross_entropy", Direction::kMinimize};
  Json paired = measurement();
  paired.update({{"cross_entropy", 0.5}, {"cross_entropy_ci95", {0.3, 0.7}}, {"cross_entropy_rise", 0.1}});
  EXPECT_THAT(observe(study, paired).intervals[0], ElementsAre(0.3, 0.7));
  paired["cross_entropy_rise_ci95"] = {0.08, 0.13};
  EXPECT_THAT(observe(study, paired).intervals[0], ElementsAre(DoubleEq(0.48), DoubleEq(0.53)));
}

TEST(Observe, CompleteTrialTellsWhatLabelsSayBeyondTheOutputs) {
  Trial trial = measured_trial(TrialState::kComplete);
  EXPECT_TRUE(std::isnan(observation_of(two_objectives(), trial).lean)) << "nobody measured it";
  trial.measurement["kl"] = 0.25;
  trial.measurement["cross_entropy_rise"] = 0.125;
  EXPECT_EQ(observation_of(two_objectives(), trial).kl, 0.25);
  EXPECT_EQ(observation_of(two_objectives(), trial).lean, -0.125);
}

TEST(Observe, PrunedTrialTellsWhatItShowed) {
  Trial trial = measured_trial(TrialState::kPruned);
  trial.measurement.erase("latency_p50_us");
  const Observation observation = observation_of(two_objectives(), trial);
  EXPECT_EQ(observation.state, TrialState::kPruned);
  EXPECT_TRUE(std::isnan(observation.lean)) << "of part of the samples";
  EXPECT_THAT(observation.objectives, ElementsAre(0.97, testing::IsNan()));
  EXPECT_THAT(observation.constraints, ElementsAre(DoubleEq(-0.01), DoubleEq(-600), DoubleEq(-390)));
}

TEST(Observe, CompleteTrialWithoutAMetricIsToldAsFailed) {
  Trial trial = measured_trial(TrialState::kComplete);
  EXPECT_EQ(observation_of(two_objectives(), trial).state, TrialState::kComplete);
  trial.measurement.erase("accuracy_drop");
  const Observation observation = observation_of(two_objectives(), trial);
  EXPECT_EQ(observation.state, TrialState::kFailed);
  EXPECT_THAT(observation.objectives, IsEmpty());
  EXPECT_EQ(observation.number, 4);
  EXPECT_THAT(observation.choices, ElementsAre(1, 2));
}

TEST(Observe, MeasurementThatIsNoObjectIsMissingEverything) {
  EXPECT_THAT(observe(two_objectives(), Json()).missing,
              ElementsAre("accuracy", "latency_p50_us", "accuracy_drop", "storage_bytes"));
}

TEST(Observe, IntervalThatIsNoneIsTheValueItself) {
  Json odd = measurement();
  odd["accuracy_ci95"] = "wide";
  odd.erase("latency_ci95_us");
  EXPECT_THAT(observe(two_objectives(), odd).intervals,
              ElementsAre(std::array{0.97, 0.97}, std::array{50.0, 50.0}));
}

}  // namespace
}  // namespace kerf::search

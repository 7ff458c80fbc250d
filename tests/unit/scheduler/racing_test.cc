#include "scheduler/racing.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace kerf::scheduler {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::Pair;

StudyDefinition study(const char* objectives, const char* constraints, const char* racing = "true") {
  auto parsed = StudyDefinition::parse({{"model", "m.onnx"},
                                        {"data", "d.npz"},
                                        {"objectives", Json::parse(objectives)},
                                        {"constraints", Json::parse(constraints)},
                                        {"search", {{"racing", Json::parse(racing)}}}});
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
  return *parsed;
}

constexpr const char* kThree = R"([{"metric": "accuracy"}, {"metric": "latency_p50_us"}, {"metric": "storage_bytes"}])";

Json measurement(double accuracy, double latency, double bytes) {
  return {{"accuracy", accuracy},         {"accuracy_drop", 0.9 - accuracy},
          {"accuracy_drop_ci95", {0.9 - accuracy - 0.004, 0.9 - accuracy + 0.005}},
          {"latency_p50_us", latency},    {"latency_ci95_us", {latency - 1, latency + 2}},
          {"storage_bytes", bytes}};
}

TEST(Racing, LimitsAreTheConstraintsOnSharesOfSamples) {
  const Racing racing(study(kThree, R"([{"metric": "accuracy_drop", "max": 0.05}, {"metric": "accuracy", "min": 0.88},
                                        {"metric": "agreement", "min": 0.95}, {"metric": "storage_bytes", "max": 9},
                                        {"metric": "kl", "max": 0.1}])"), measurement(0.9, 10, 100));
  const auto terms = racing.terms(std::vector<std::int64_t>{0});
  ASSERT_TRUE(terms.has_value());
  EXPECT_THAT(terms->limits, ElementsAre(Pair("accuracy_drop", DoubleEq(0.9 - 0.88)), Pair("agreement", 0.95)));
  EXPECT_THAT(terms->rivals, testing::IsEmpty());
  EXPECT_NEAR(terms->alpha, 0.001, 1e-12);
}

TEST(Racing, NothingIsRacedBeforeSomethingFeasibleIsKnown) {
  const Racing racing(study(kThree, R"([{"metric": "accuracy_drop", "max": 0.05}])"), measurement(0.9, 10, 100));
  EXPECT_FALSE(racing.terms({}).has_value());
}

TEST(Racing, RivalsAreTheFrontAtTheBadEndsOfItsIntervals) {
  Racing racing(study(kThree, "[]", R"({"front": true, "confidence": 0.99})"), measurement(0.9, 10, 100));
  racing.learn(0, measurement(0.9, 10, 100));
  racing.learn(4, measurement(0.88, 5, 50));
  racing.learn(5, measurement(0.5, 50, 50));
  const auto terms = racing.terms(std::vector<std::int64_t>{0, 4});
  ASSERT_TRUE(terms.has_value());
  EXPECT_EQ(terms->quality_metric, "accuracy_drop");
  ASSERT_EQ(terms->rivals.size(), 2U);
  EXPECT_EQ(terms->rivals[1].trial, 4);
  EXPECT_DOUBLE_EQ(terms->rivals[1].quality, 0.9 - 0.88 + 0.005);
  EXPECT_THAT(terms->rivals[1].others, ElementsAre(Pair("latency_p50_us", 7), Pair("storage_bytes", 50)));
  EXPECT_NEAR(terms->alpha, 0.01, 1e-12);
  const auto again = RacingTerms::parse(terms->to_json());
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(*again, *terms);
}

TEST(Racing, WithoutOneQualityAmongTheObjectivesNobodyIsARival) {
  for (const char* objectives : {R"([{"metric": "accuracy"}, {"metric": "agreement"}])", R"([{"metric": "kl"}, {"metric": "storage_bytes"}])",
                                 R"([{"metric": "accuracy"}, {"metric": "storage_bytes", "direction": "maximize"}])"}) {
    Racing racing(study(objectives, "[]", R"({"front": true})"), measurement(0.9, 10, 100));
    racing.learn(0, measurement(0.9, 10, 100));
    EXPECT_FALSE(racing.terms(std::vector<std::int64_t>{0}).has_value()) << objectives;
  }
}

TEST(Racing, AccuracyOfAPrunedTrialIsThatOfItsDifferenceToTheBaseline) {
  const Racing racing(study(kThree, "[]"), measurement(0.9, 10, 100));
  Trial trial;
  trial.state = TrialState::kPruned;
  trial.measurement = {{"accuracy", 0.75}, {"accuracy_drop", 0.25}, {"samples", 256}};  // the baseline: 1.0 of these
  EXPECT_DOUBLE_EQ(racing.paired(trial).measurement["accuracy"].get<double>(), 0.65);
  trial.state = TrialState::kComplete;
  EXPECT_EQ(racing.paired(trial).measurement, trial.measurement);
}

TEST(Racing, IsOffWhereTheStudySaysSo) {
  const Racing racing(study(kThree, R"([{"metric": "accuracy_drop", "max": 0.05}])", "false"), measurement(0.9, 10, 100));
  EXPECT_FALSE(racing.terms(std::vector<std::int64_t>{0}).has_value());
}

TEST(Racing, WithoutLabelsThereIsNoLimitOnAccuracy) {
  const Racing racing(study(R"([{"metric": "agreement"}])", R"([{"metric": "accuracy_drop", "max": 0.05}])"), {{"agreement", 1.0}});
  EXPECT_FALSE(racing.terms(std::vector<std::int64_t>{0}).has_value());
}

}  // namespace
}  // namespace kerf::scheduler

#include "search/promise.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <random>

namespace kerf::search {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

StudyDefinition study(const char* constraints = "[]") {
  auto parsed = StudyDefinition::parse({{"model", "m.onnx"},
                                        {"data", "d.npz"},
                                        {"objectives", Json::parse(R"([{"metric": "accuracy"}, {"metric": "storage_bytes"}])")},
                                        {"constraints", Json::parse(constraints)}});
  EXPECT_TRUE(parsed.has_value());
  return *parsed;
}

Json measured(double accuracy, double drop, double half) {
  return {{"accuracy", accuracy}, {"accuracy_ci95", {accuracy - 0.01, accuracy + 0.01}},
          {"accuracy_drop", drop}, {"accuracy_drop_ci95", {drop - half, drop + half}},
          {"storage_bytes", 100}};
}

TEST(Promise, IsBrokenByADropBeyondTheNoiseOfBothSplits) {
  const Json promise = measured(0.89, 0.010, 0.004);
  EXPECT_THAT(broken_promises(study(), promise, measured(0.80, 0.015, 0.004)), IsEmpty());
  const auto broken = broken_promises(study(), promise, measured(0.80, 0.017, 0.004));
  ASSERT_THAT(broken, SizeIs(1));
  EXPECT_EQ(broken[0].metric, "accuracy_drop");
  EXPECT_FALSE(broken[0].bound);
  EXPECT_DOUBLE_EQ(broken[0].promised, 0.010);
  EXPECT_DOUBLE_EQ(broken[0].measured, 0.017);
  EXPECT_EQ(broken[0].to_json()["metric"], "accuracy_drop");
}

TEST(Promise, IsNotBrokenByASplitThatIsHarderForTheBaselineToo) {
  EXPECT_THAT(broken_promises(study(), measured(0.89, 0.01, 0.004), measured(0.60, 0.01, 0.004)), IsEmpty());
}

TEST(Promise, IsNotBrokenByBeingBetter) {
  EXPECT_THAT(broken_promises(study(), measured(0.89, 0.05, 0.004), measured(0.93, 0.0, 0.004)), IsEmpty());
}

TEST(Promise, IncludesTheConstraints) {
  const auto bounded = study(R"([{"metric": "accuracy_drop", "max": 0.02}, {"metric": "storage_bytes", "max": 50}])");
  const auto broken = broken_promises(bounded, measured(0.89, 0.019, 0.01), measured(0.89, 0.021, 0.01));
  ASSERT_THAT(broken, SizeIs(1));
  EXPECT_TRUE(broken[0].bound);
  // A bound that wasn't kept before promised nothing.
  EXPECT_THAT(broken_promises(bounded, measured(0.89, 0.021, 0.01), measured(0.89, 0.022, 0.01)), IsEmpty());
}

TEST(Promise, WithoutLabelsIsOfWhatThereIs) {
  auto parsed = StudyDefinition::parse(Json::parse(R"({"model": "m.onnx", "data": "d.npz",
    "objectives": [{"metric": "agreement"}, {"metric": "latency_p50_us"}, {"metric": "rss_peak_bytes"}]})"));
  ASSERT_TRUE(parsed.has_value());
  const Json promise = {{"agreement", 0.99}, {"agreement_ci95", {0.985, 0.993}}, {"latency_p50_us", 5.0}, {"rss_peak_bytes", 1}};
  const Json test = {{"agreement", 0.95}, {"agreement_ci95", {0.94, 0.96}}, {"rss_peak_bytes", 5}};
  const auto broken = broken_promises(*parsed, promise, test);
  ASSERT_THAT(broken, SizeIs(1));
  EXPECT_EQ(broken[0].metric, "agreement");
}

TEST(Promise, OfACandidateAsGoodAsItSeemedIsRarelyCalledBroken) {
  std::mt19937_64 random(20);
  std::normal_distribution<double> normal;
  int marked = 0;
  constexpr int kRuns = 20000;
  for (int run = 0; run < kRuns; ++run) {
    const double half = 1.96 * 0.004;
    const Json promise = measured(0.9, 0.01 + 0.004 * normal(random), half);
    const Json test = measured(0.9, 0.01 + 0.004 * normal(random), half);
    marked += broken_promises(study(), promise, test).empty() ? 0 : 1;
  }
  // 2.5 % of 20,000 are 500, with a deviation of 22.
  EXPECT_GT(marked, 400);
  EXPECT_LT(marked, 600);
}

}  // namespace
}  // namespace kerf::search

#include "search/hypervolume.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace kerf::search {
namespace {

constexpr Direction kMin = Direction::kMinimize;
constexpr Direction kMax = Direction::kMaximize;

class HypervolumeGolden : public testing::Test {
 protected:
  void SetUp() override {
    auto document = read_json_file(KERF_SOURCE_DIR "/tests/golden/search/hypervolume.json");
    ASSERT_TRUE(document.has_value()) << document.error().message;
    cases_ = (*document)["cases"];
    ASSERT_GE(cases_.size(), 15U);
  }

  static std::vector<Direction> directions(const Json& one) {
    std::vector<Direction> out;
    for (const Json& text : one["directions"]) {
      out.push_back(*direction_from_string(text.get<std::string>()));
    }
    return out;
  }

  Json cases_;
};

TEST_F(HypervolumeGolden, EqualsMoocoreToTwelveDigits) {
  for (const Json& one : cases_) {
    const auto points = one["points"].get<std::vector<ObjectiveVector>>();
    const auto reference = one["reference"].get<std::vector<double>>();
    const double expected = one["hypervolume"].get<double>();
    EXPECT_NEAR(hypervolume(points, directions(one), reference), expected, 1e-12 * expected)
        << one["name"];
  }
}

TEST_F(HypervolumeGolden, ContributionsEqualMoocores) {
  for (const Json& one : cases_) {
    const auto points = one["points"].get<std::vector<ObjectiveVector>>();
    const auto expected = one["contributions"].get<std::vector<double>>();
    const auto reference = one["reference"].get<std::vector<double>>();
    const double whole = one["hypervolume"].get<double>();
    const auto got = hypervolume_contributions(points, directions(one), reference);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], 1e-12 * whole) << one["name"] << ", point " << i;
    }
  }
}

TEST_F(HypervolumeGolden, FrontsEqualMoocores) {
  for (const Json& one : cases_) {
    const auto points = one["points"].get<std::vector<ObjectiveVector>>();
    EXPECT_EQ(non_dominated(points, directions(one)), one["front"].get<std::vector<std::size_t>>())
        << one["name"];
  }
}

TEST(Hypervolume, OfNothingIsNothing) {
  const std::vector<Direction> directions = {kMin, kMin};
  EXPECT_EQ(hypervolume({}, directions, std::vector{1.0, 1.0}), 0);
  const std::vector<ObjectiveVector> outside = {{1, 0}, {2, 2}, {}, {NAN, 0}};
  EXPECT_EQ(hypervolume(outside, directions, std::vector{1.0, 1.0}), 0);
  EXPECT_THAT(hypervolume_contributions(outside, directions, std::vector{1.0, 1.0}),
              testing::Each(0.0));
}

TEST(Hypervolume, OfOneObjectiveIsTheDistance) {
  const std::vector<Direction> directions = {kMax};
  const std::vector<ObjectiveVector> points = {{0.25}, {0.75}};
  EXPECT_DOUBLE_EQ(hypervolume(points, directions, std::vector{0.25}), 0.5);
  EXPECT_THAT(hypervolume_contributions(points, directions, std::vector{0.0}),
              testing::ElementsAre(0, 0.75));
}

TEST(Hypervolume, OfFiveObjectivesEqualsInclusionAndExclusion) {
  const std::vector<Direction> directions(5, kMin);
  const std::vector<double> reference(5, 1.0);
  const std::vector<ObjectiveVector> points = {
      {0.1, 0.5, 0.5, 0.5, 0.5}, {0.5, 0.2, 0.5, 0.5, 0.5}, {0.5, 0.5, 0.5, 0.5, 0.3}};
  double expected = 0;
  for (unsigned subset = 1; subset < 8; ++subset) {
    double product = 1;
    for (std::size_t d = 0; d < 5; ++d) {
      double worst = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        if ((subset >> i & 1U) != 0) worst = std::max(worst, points[i][d]);
      }
      product *= 1 - worst;
    }
    expected += (__builtin_popcount(subset) % 2 == 1 ? 1 : -1) * product;
  }
  EXPECT_NEAR(hypervolume(points, directions, reference), expected, 1e-15);
}

TEST(Hypervolume, ContributionsAreWhatRemovalCosts) {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> value(0, 1);
  for (std::size_t dimensions = 2; dimensions <= 4; ++dimensions) {
    const std::vector<Direction> directions(dimensions, kMax);
    const std::vector<double> reference(dimensions, 0.0);
    std::vector<ObjectiveVector> points;
    for (int i = 0; i < 25; ++i) {
      ObjectiveVector point;
      for (std::size_t d = 0; d < dimensions; ++d) point.push_back(value(random));
      points.push_back(point);
    }
    std::vector<ObjectiveVector> front;
    for (const std::size_t i : non_dominated(points, directions)) front.push_back(points[i]);
    const double whole = hypervolume(front, directions, reference);
    const auto contributions = hypervolume_contributions(front, directions, reference);
    for (std::size_t i = 0; i < front.size(); ++i) {
      auto others = front;
      others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_NEAR(contributions[i], whole - hypervolume(others, directions, reference), 1e-13);
    }
  }
}

TEST(Hypervolume, RefusesSizesThatDisagree) {
  const std::vector<Direction> directions = {kMin, kMin};
  const std::vector<ObjectiveVector> points = {{1, 2, 3}};
  EXPECT_THROW((void)hypervolume(points, directions, std::vector{4.0, 4.0}), std::invalid_argument);
  EXPECT_THROW((void)hypervolume({}, directions, std::vector{4.0}), std::invalid_argument);
  EXPECT_THROW((void)hypervolume({}, directions, std::vector<double>{4.0, INFINITY}), std::invalid_argument);
}

StudyDefinition study_of(const char* objectives, const char* constraints) {
  const Json document = {{"model", "m.onnx"},
                         {"data", "d.npz"},
                         {"objectives", Json::parse(objectives)},
                         {"constraints", Json::parse(constraints)}};
  auto study = StudyDefinition::parse(document);
  EXPECT_TRUE(study.has_value()) << study.error().message;
  return *study;
}

TEST(ReferencePoint, ComesFromBoundsBeforeTheBaseline) {
  const auto study = study_of(
      R"([{"metric": "accuracy"}, {"metric": "latency_p50_us"}, {"metric": "storage_bytes"}])",
      R"([{"metric": "accuracy_drop", "max": 0.02}, {"metric": "storage_bytes", "max": 5000}])");
  const auto reference = reference_point(
      study, {{"accuracy", 0.99}, {"latency_p50_us", 200.0}, {"storage_bytes", 10000}});
  ASSERT_TRUE(reference.has_value()) << reference.error().message;
  EXPECT_THAT(*reference, testing::ElementsAre(testing::DoubleEq(0.97), testing::DoubleEq(220),
                                               testing::DoubleEq(5000)));
}

TEST(ReferencePoint, OfSharesWithoutABoundIsZero) {
  const auto study = study_of(R"([{"metric": "agreement"}, {"metric": "sqnr_db"},
                                  {"metric": "throughput_sps"}, {"metric": "accuracy_drop"}])", "[]");
  const auto reference =
      reference_point(study, {{"agreement", 1.0}, {"throughput_sps", 110.0}, {"accuracy", 0.9}});
  ASSERT_TRUE(reference.has_value()) << reference.error().message;
  EXPECT_THAT(*reference, testing::ElementsAre(0, 0, testing::DoubleEq(100), 0.9));
}

TEST(ReferencePoint, OfErrorsIsTwiceTheBaselines) {
  const auto study = study_of(R"([{"metric": "mae"}, {"metric": "rmse"}])", R"([{"metric": "rmse", "max": 0.3}])");
  const auto reference = reference_point(study, {{"mae", 0.125}, {"rmse", 0.25}});
  ASSERT_TRUE(reference.has_value()) << reference.error().message;
  EXPECT_THAT(*reference, testing::ElementsAre(0.25, 0.3));
}

TEST(ReferencePoint, LeavesRoomWhereTheBaselineIsZeroOrTheBound) {
  const auto study = study_of(R"([{"metric": "kl"}, {"metric": "accuracy"}])",
                              R"([{"metric": "accuracy_drop", "max": 0}])");
  const auto reference = reference_point(study, {{"kl", 0.0}, {"accuracy", 0.9}});
  ASSERT_TRUE(reference.has_value()) << reference.error().message;
  EXPECT_THAT(*reference, testing::ElementsAre(1, testing::DoubleEq(0.89)));
}

TEST(ReferencePoint, NamesTheObjectiveThatTheBaselineLacks) {
  const auto study = study_of(R"([{"metric": "accuracy"}, {"metric": "energy_uj"}])", "[]");
  const auto reference = reference_point(study, {{"accuracy", 0.9}});
  ASSERT_FALSE(reference.has_value());
  EXPECT_EQ(reference.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(reference.error().message, testing::HasSubstr("energy_uj"));
}

TEST(ReferencePoint, BaselineItselfHasVolume) {
  const auto study = study_of(
      R"([{"metric": "accuracy"}, {"metric": "latency_p50_us"}, {"metric": "storage_bytes"}])", "[]");
  const Json baseline = {{"accuracy", 0.5}, {"latency_p50_us", 3.0}, {"storage_bytes", 100}};
  const auto reference = reference_point(study, baseline);
  ASSERT_TRUE(reference.has_value());
  const std::vector<ObjectiveVector> point = {{0.5, 3, 100}};
  EXPECT_GT(hypervolume(point, std::vector{kMax, kMin, kMin}, *reference), 0);
}

}  // namespace
}  // namespace kerf::search

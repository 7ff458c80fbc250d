// The published table of HAWQ-V3 for ResNet-18: 16 free dimensions of two choices, so that the truth is
// known by trying everything. The table isn't part of this tree: without it these tests are skipped.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "search/hypervolume.h"
#include "search/simulate.h"
#include "tests/unit/search/every_point.h"

namespace kerf::search {
namespace {

class Hawq : public testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path folder = std::filesystem::path(KERF_SOURCE_DIR).parent_path() / "shared/data/tables";
    if (!std::filesystem::exists(folder / "hawq_resnet18.json")) GTEST_SKIP() << "no HAWQ table in " << folder;
    document_ = *read_json_file((folder / "hawq_resnet18.json").string());
    optima_ = *read_json_file((folder / "hawq_resnet18_optima.json").string());
    for (Json& layer : document_["layers"]) {
      for (Json& choice : layer["choices"]) {
        for (const char* name : {"sensitivity", "latency_ms", "size_mb"}) choice["profile"][name] = choice[name];
      }
    }
  }

  /// The table with these objectives only.
  [[nodiscard]] Table table(const std::vector<std::string>& objectives) const {
    Json document = document_;
    const Json all = document["objectives"];
    const Json reference = document["reference"];
    document["objectives"] = Json::array();
    document["reference"] = Json::object();
    for (const Json& objective : all) {
      const auto metric = objective["metric"].get<std::string>();
      if (std::find(objectives.begin(), objectives.end(), metric) == objectives.end()) continue;
      document["objectives"].push_back(objective);
      document["reference"][metric] = reference[metric];
    }
    Result<Table> parsed = Table::parse(document);
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    return *parsed;
  }

  [[nodiscard]] static ObjectiveVector values(const Table& table, const MetricValues& metrics) {
    ObjectiveVector out;
    for (const Objective& objective : table.objectives()) out.push_back(metrics.at(objective.metric));
    return out;
  }

  /// The front of all 65,536 candidates; equal points once.
  [[nodiscard]] static std::vector<ObjectiveVector> exact_front(const Table& table) {
    const std::vector<ObjectiveVector> points = every_point(table);
    EXPECT_EQ(points.size(), 65536U);
    const std::vector<Direction> directions(table.objectives().size(), Direction::kMinimize);
    std::set<ObjectiveVector> front;
    for (const std::size_t i : non_dominated(points, directions)) front.insert(points[i]);
    return {front.begin(), front.end()};
  }

  /// How many of the exact front's points a search with the table's values as profile measured.
  static void expect_whole_front(const Table& table, std::size_t size) {
    const std::vector<ObjectiveVector> exact = exact_front(table);
    EXPECT_EQ(exact.size(), size);
    const auto result = simulate(table, {.sampler = "profile", .trials = 150, .look = true});
    ASSERT_TRUE(result.has_value()) << result.error().message;
    std::set<ObjectiveVector> found;
    for (const SimulatedTrial& trial : result->trials) found.insert(values(table, trial.metrics));
    for (const ObjectiveVector& point : exact) {
      EXPECT_TRUE(found.contains(point)) << "not measured: " << point[0] << ", " << point[1];
    }
  }

  Json document_;
  Json optima_;
};

TEST_F(Hawq, ThePublishedOptimaAreOnTheFrontAfterSixtyTrials) {
  const auto result = simulate(table({"sensitivity", "latency_ms", "size_mb"}), {.sampler = "profile", .trials = 60, .look = true});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(optima_.size(), 9U);
  for (const Json& optimum : optima_) {
    const std::string metric = optimum["constraint"] == "latency" ? "latency_ms"
                               : optimum["constraint"] == "bops"  ? "gbops" : "size_mb";
    const bool found = std::any_of(result->front.begin(), result->front.end(), [&](std::size_t i) {
      const MetricValues& metrics = result->trials[i].metrics;
      return std::abs(metrics.at("sensitivity") - optimum["ilp_sensitivity"].get<double>()) < 1e-9 &&
             std::abs(metrics.at(metric) - optimum["ilp_cost"].get<double>()) < 1e-9;
    });
    EXPECT_TRUE(found) << optimum["constraint"] << " " << optimum["ratio"];
  }
}

TEST_F(Hawq, TheWholeFrontOfSensitivityAndLatencyIsMeasured) { expect_whole_front(table({"sensitivity", "latency_ms"}), 41); }

TEST_F(Hawq, TheWholeFrontOfSensitivityAndSizeIsMeasured) { expect_whole_front(table({"sensitivity", "size_mb"}), 29); }

TEST_F(Hawq, WithoutAProfileTheHypervolumeIsThatOfTheExactFront) {
  const Table all = table({"sensitivity", "latency_ms", "size_mb"});
  const double exact = hypervolume(exact_front(all), std::vector(3, Direction::kMinimize), all.reference());
  for (const std::int64_t seed : {1, 2, 3}) {
    const auto result = simulate(all, {.sampler = "profile", .trials = 150, .seed = seed});
    ASSERT_TRUE(result.has_value());
    EXPECT_GE(result->exact_hypervolume.back(), 0.99 * exact) << "seed " << seed;
    RecordProperty("share_" + std::to_string(seed), std::to_string(result->exact_hypervolume.back() / exact));
  }
}

}  // namespace
}  // namespace kerf::search
